"""Simulations without worker processes, which take a second to start."""

import pytest

from sim.dealing import source


@pytest.fixture(autouse=True)
def _no_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "WORKERS", 1)
