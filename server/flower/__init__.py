"""Flower's private parts that the coordinator depends on."""
