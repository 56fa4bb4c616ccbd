"""Suppressed counts: no cell below the minimum follows from what leaves the site."""

from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.privacy.suppression import released, rounded

CELLS = "ABCD"
KEYS = [bytes([n]) for n in range(12)]


def counts_of(*values: int) -> dict[str, int]:
    return dict(zip(CELLS, values, strict=False))


@pytest.mark.parametrize(
    ("counts", "answer"),
    [
        ((22, 33, 0, 10), (20, 35, 0, 10)),  # an empty cell is told, as in evaluations
        ((20, 30, 12, 3), (20, 30, None, None)),  # the total would give D away
        ((20, 2, 12, 3), (20, None, None, None)),  # 2 + 3 leaves each fewer than 5 values
        ((4, 4, 30, 40), (None, None, 30, 40)),
        ((1, 5, 0, 0), (None, None, 0, 0)),
        ((1, 1, 1, 1), None),  # the total gives all of them away
        ((0, 0, 3, 0), None),
        ((0, 0, 0, 0), (0, 0, 0, 0)),
    ],
)
def test_cells_below_five_are_hidden_with_the_smallest_others(
    counts: tuple[int, ...], answer: tuple[int | None, ...] | None
) -> None:
    found = released(counts_of(*counts), 5, KEYS[0])
    assert (None if found is None else tuple(found.get(name, 0) for name in CELLS)) == answer


def test_the_key_chooses_among_cells_that_are_equal_when_rounded() -> None:
    shown = {
        name
        for key in KEYS
        for name, cell in (released(counts_of(23, 22, 3), 10, key) or {}).items()
        if cell is not None
    }
    assert shown == {"A", "B"}


def test_rounding_is_to_the_nearest_multiple() -> None:
    assert [rounded(n, 5) for n in (2, 3, 5, 7, 8)] == [0, 5, 5, 5, 10]
    assert released(counts_of(2, 0, 1, 7), 1, KEYS[0]) == {"A": 2, "C": 1, "D": 7}


def compositions(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to write a total as positive parts."""
    if parts == 1:
        yield from [(total,)] if total > 0 else []
        return
    for first in range(1, total - parts + 2):
        yield from ((first, *rest) for rest in compositions(total - first, parts - 1))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 5), st.lists(st.integers(0, 14), min_size=4, max_size=4))
def test_an_attacker_with_the_rule_and_the_exact_total_cannot_invert(
    minimum: int, values: list[int]
) -> None:
    """Of all tables that would be released in the same way, each hidden cell has two values."""
    counts = counts_of(*values)
    answer = released(counts, minimum, KEYS[0])
    if answer is None:
        return
    assert all(counts[name] >= minimum for name, cell in answer.items() if cell)
    hidden = [name for name, cell in answer.items() if cell is None]
    possible: dict[str, set[int]] = {name: set() for name in hidden}
    for table in tables_like(answer, sum(values), minimum):
        for name in hidden:
            possible[name].add(table[name])
        if all(len(found) > 1 for found in possible.values()):
            break
    assert len(hidden) != 1
    assert all(len(found) > 1 for found in possible.values()), (counts, hidden, possible)


def tables_like(
    answer: dict[str, int | None], total: int, minimum: int
) -> Iterator[dict[str, int]]:
    """All tables of a total that are released as this answer under some key."""
    hidden = [name for name, cell in answer.items() if cell is None]
    shown = {name: cell for name, cell in answer.items() if cell is not None}
    windows = (range(max(1, cell - minimum), cell + minimum) for cell in shown.values())
    for guess in product(*windows):
        for rest in compositions(total - sum(guess), len(hidden)) if hidden else [()]:
            table = dict(zip((*shown, *hidden), (*guess, *rest), strict=True))
            if any(released(table, minimum, key) == answer for key in KEYS):
                yield table
