"""A run's folder: events, checkpoints, audit log, site history."""
