"""Simulation of a federation on one machine: synthetic sites, engines and `mama-sim`."""
