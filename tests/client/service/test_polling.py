"""Intervals at which node and guard ask; no test pauses."""

import pytest

from client.service import polling
from client.service.polling import NodePauses, Pace


class Clock:
    """Stands for `time`: it moves only when asked to, and pauses are written down."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(polling, "time", made)
    return made


def test_a_pause_is_a_twentieth_of_the_idle_time_within_limits(clock: Clock) -> None:
    made = Pace(0.1, 1.0)
    for seconds in (0, 1, 9, 1000):
        clock.now = 1000.0 + seconds
        made.rest()
    made.worked()
    made.rest()
    assert clock.pauses == pytest.approx([0.1, 0.1, 0.45, 1.0, 0.1])


def test_a_node_that_only_asks_and_beats_is_idle(clock: Clock) -> None:
    pauses = NodePauses()
    clock.now += 40
    for call in ("pull-messages", "send-node-heartbeat"):
        pauses.called(f"/v1/fleet/{call}")
    pauses.sleep(3)
    for call in ("push-messages", "push-object", "confirm-message-received"):
        clock.now += 40
        pauses.called(f"/v1/fleet/{call}")
        pauses.sleep(3)
    assert clock.pauses == pytest.approx([2.0, 0.3, 0.3, 0.3])


def test_training_may_take_hours(clock: Clock) -> None:
    """The node looks for the answer ten times a second, for as long as it takes."""
    pauses = NodePauses()
    for _ in range(3):
        clock.now += 7200
        pauses.sleep(0.5)
    assert clock.pauses == pytest.approx([0.1, 0.1, 0.1])
