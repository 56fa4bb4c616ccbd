"""Ingest: convert a source into a dataset."""
