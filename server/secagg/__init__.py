"""Coordinator's side of secure aggregation."""
