"""Training with a bound on what leaves about one patient."""
