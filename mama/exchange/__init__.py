"""Everything that leaves a hospital: schemas, tensors, metrics and error codes."""
