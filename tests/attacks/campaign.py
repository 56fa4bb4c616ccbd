"""Sizes of the campaigns of changed messages and damaged folders."""

import os

FULL = "FEDMAMA_FULL" in os.environ


def cases(number: int) -> int:
    """Return `number` in a full campaign, which takes half an hour more, otherwise a quarter."""
    return number if FULL else number // 4
