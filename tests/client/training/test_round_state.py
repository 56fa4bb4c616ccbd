"""States by round: a round asked for again starts where it started the first time."""

from pathlib import Path

import pytest

from client.training.round_state import RoundStates
from mama.errors import ModelError


def keep(states: RoundStates, *numbers: int) -> None:
    states.folder.mkdir(exist_ok=True)
    for number in numbers:
        states.of(number).write_bytes(b"")
        states.keep(number)


def test_a_round_starts_from_the_newest_earlier_one(tmp_path: Path) -> None:
    states = RoundStates(tmp_path / "states")
    assert states.before(1) is None
    keep(states, 1, 2, 7)
    assert states.before(7) == states.of(2)
    assert states.before(8) == states.before(100) == states.of(7)


def test_only_what_a_repeated_round_needs_is_kept(tmp_path: Path) -> None:
    states = RoundStates(tmp_path / "states")
    keep(states, 9, 10, 11, 100_000)
    assert sorted(states.folder.iterdir()) == [states.of(10), states.of(11), states.of(100_000)]
    keep(states, 100_000)  # again
    assert states.before(100_000) == states.of(11)
    # The coordinator's newest checkpoint was damaged: the round before is done again.
    assert states.before(11) == states.of(10)


def test_a_state_that_is_gone_is_missed_and_no_older_one_takes_its_place(tmp_path: Path) -> None:
    states, others = RoundStates(tmp_path / "local"), RoundStates(tmp_path / "optimiser")
    keep(states, 1, 2)
    keep(others, 1, 2)
    states.of(2).unlink()
    with pytest.raises(ModelError, match="is missing") as error:
        states.before(3)
    assert str(states.of(2)) in str(error.value)
    assert states.before(2) == states.of(1)
    assert others.before(3) == others.of(2)
    # The defence is the index: without it the older one would be taken.
    states.index.unlink()
    assert states.before(3) == states.of(1)


def test_a_whole_folder_that_is_gone_is_missed(tmp_path: Path) -> None:
    states = RoundStates(tmp_path / "local")
    keep(states, 1)
    states.of(1).unlink()
    states.folder.rmdir()
    with pytest.raises(ModelError, match="is missing"):
        states.before(2)


@pytest.mark.parametrize("content", [b"", b"[1, 2]", b"{", b"\xff\xfe", b'{"local": [9]}', None])
def test_a_damaged_index_loses_no_state(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    states = RoundStates(tmp_path / "local")
    keep(states, 1, 2)
    states.index.unlink() if content is None else states.index.write_bytes(content)
    assert states.before(3) == states.of(2)
    said = "the existing files are used" if content is None else "it is treated as missing"
    assert said in caplog.text
    keep(states, 3)
    assert states.before(4) == states.of(3)


def test_a_state_that_a_crash_kept_from_being_counted_counts(tmp_path: Path) -> None:
    states = RoundStates(tmp_path / "local")
    keep(states, 1)
    states.of(2).write_bytes(b"")
    assert states.before(3) == states.of(2)
