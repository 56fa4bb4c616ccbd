"""Differentially private training: bounds on what leaves a site about one patient."""
