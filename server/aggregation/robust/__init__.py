"""Rules that must see all updates of a round at once."""
