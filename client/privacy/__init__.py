"""Private rounds, the ledger of privacy spent, and the record of what was sent."""
