"""Benchmarks of attacks, audits and the cost of privacy."""
