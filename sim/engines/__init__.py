"""Engines that run all sites on one machine."""
