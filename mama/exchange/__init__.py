"""What leaves a hospital, and nothing else does: schemas, tensors, metrics, error codes."""
