"""Fixtures of other folders that attacks use too."""

from tests.server.conftest import make_world

__all__ = ["make_world"]
