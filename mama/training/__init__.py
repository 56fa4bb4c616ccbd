"""Local training: objective, gradient, training loop, and training without a federation."""
