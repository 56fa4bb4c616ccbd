"""Flower's private parts that a site depends on."""
