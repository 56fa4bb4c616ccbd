"""Benchmarks of rounds, of the codings of what travels, and of aggregation."""
