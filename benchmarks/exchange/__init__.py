"""Benchmarks of exchange and aggregation of updates."""
