"""Protocols of evaluation: zero-shot classification, linear probes, and retrieval of reports."""
