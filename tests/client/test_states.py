"""States by round: a round asked for again starts where it started the first time."""

from pathlib import Path

from client.states import RoundStates


def keep(states: RoundStates, *numbers: int) -> None:
    states.folder.mkdir(exist_ok=True)
    for number in numbers:
        states.of(number).write_bytes(b"")
        states.prune(number)


def test_a_round_starts_from_the_newest_earlier_one(tmp_path: Path) -> None:
    states = RoundStates(tmp_path / "states")
    assert states.before(1) is None
    keep(states, 1, 2, 7)
    assert states.before(7) == states.of(2)
    assert states.before(8) == states.before(100) == states.of(7)


def test_only_what_a_repeated_round_needs_is_kept(tmp_path: Path) -> None:
    states = RoundStates(tmp_path)
    keep(states, 9, 10, 11, 100_000)
    assert sorted(tmp_path.iterdir()) == [states.of(10), states.of(11), states.of(100_000)]
    keep(states, 100_000)  # again
    assert states.before(100_000) == states.of(11)
    # The coordinator's newest checkpoint was damaged: the round before is done again.
    assert states.before(11) == states.of(10)
