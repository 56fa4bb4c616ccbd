"""Benchmarks of the method: step, losses, towers, memory, input."""
