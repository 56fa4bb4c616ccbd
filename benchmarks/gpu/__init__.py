"""Benchmarks and checks that need a GPU, for a machine without network."""
