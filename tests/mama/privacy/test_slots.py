"""Patient slots: fixed number, unchanged within a run, refilled between runs."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.errors import PrivacyError
from mama.privacy.slots import PatientSlots

names = st.sets(st.text("abcdef", min_size=1, max_size=3), max_size=30)


@given(first=names, second=names, size=st.integers(1, 25), later=st.integers(1, 25))
def test_refilling(first: set[str], second: set[str], size: int, later: int) -> None:
    before = PatientSlots().refilled(first, size)
    assert len(before.slots) == size
    seated = [p for p in before.slots if p]
    assert len(set(seated)) == len(seated) == min(size, len(first))
    assert set(seated) <= first
    after = before.refilled(second, later)
    assert len(after.slots) == later
    sitting = [p for p in after.slots if p]
    assert len(set(sitting)) == len(sitting) == min(later, len(second))
    for old, new in zip(before.slots, after.slots, strict=False):
        if old in second:
            assert new == old
    assert after.refilled(second, later) == after


def test_who_gets_a_slot_is_drawn() -> None:
    patients = [f"p{n}" for n in range(100)]
    rosters = {PatientSlots().refilled(patients, 5).slots for _ in range(3)}
    assert len(rosters) == 3


def test_the_lost_share_is_that_of_groups_with_an_empty_slot() -> None:
    full = PatientSlots(tuple("abcdefgh"))
    assert full.lost_share(4) == 0
    assert PatientSlots((*"abcdefg", None)).lost_share(4) == pytest.approx(0.5)
    assert PatientSlots((None, *"ab")).lost_share(3) == 1
    # About 1 - (1 - e)^k: with 5 % empty slots and groups of 16 more than half are lost.
    roster = PatientSlots(tuple("x" * 1900) + (None,) * 100)
    assert roster.lost_share(16) == pytest.approx(1 - 0.95**16, abs=0.005)
    assert math.isclose(roster.lost_share(16), 0.56, abs_tol=0.005)


def test_it_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "roster.json"
    assert PatientSlots.load(path) == PatientSlots()
    roster = PatientSlots(("a", None, "b"))
    roster.save(path)
    assert PatientSlots.load(path) == roster


@pytest.mark.parametrize("text", ["", "[]", '{"slots": 3}', '{"run": ["a"]}', "\x00"])
def test_a_damaged_roster_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "roster.json"
    path.write_text(text)
    with pytest.raises(PrivacyError, match="damaged"):
        PatientSlots.load(path)
