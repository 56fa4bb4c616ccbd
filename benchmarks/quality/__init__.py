"""Benchmarks of learned quality on phantoms and films."""
