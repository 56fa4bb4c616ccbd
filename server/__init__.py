"""Coordinator: the Flower ServerApp, rounds, aggregation, run folder."""
