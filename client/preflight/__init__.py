"""Checks of `mama-site check`: everything a site needs for training, each with its remedy."""
