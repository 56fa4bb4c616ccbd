"""Benchmarks of rounds across processes and engines."""
