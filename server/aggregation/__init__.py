"""From a round's updates to the next global model, one algorithm a file."""
