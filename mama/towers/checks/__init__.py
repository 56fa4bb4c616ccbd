"""Checks of a base model, between loading and training."""
