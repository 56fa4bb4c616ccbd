"""Evaluation: zero-shot classification, linear probes and the counts they are scored from."""
