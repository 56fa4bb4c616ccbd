"""A reply's content is waited for as long as it comes, and no longer."""

import time

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError

from server import eager
from server.eager import pull_while_it_comes


def test_a_slow_reply_comes_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer as a whole than any of its pieces may."""
    monkeypatch.setattr(eager, "STALLED_S", 0.4)
    begin = time.monotonic()
    there_after = {"a": 0.0, "b": 0.3, "c": 0.6}

    def pull(name: str) -> bytes:
        if time.monotonic() - begin < there_after[name]:
            raise ObjectUnavailableError(name)
        return name.encode()

    assert pull_while_it_comes(["a", "b", "c"], pull) == {"a": b"a", "b": b"b", "c": b"c"}


def test_one_of_which_nothing_more_comes_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eager, "STALLED_S", 0.2)

    def pull(name: str) -> bytes:
        if name == "b":
            raise ObjectUnavailableError(name)
        return b"a"

    begin = time.monotonic()
    with pytest.raises(ObjectPullError, match="does not come"):
        pull_while_it_comes(["a", "b"], pull)
    assert time.monotonic() - begin < 5
