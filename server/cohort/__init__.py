"""Sites of a round: membership, sampling, quorum, signatures."""
