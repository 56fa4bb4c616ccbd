"""Coordinator's service: daemon, queue of runs, overview."""
