"""Coded cells in the spellings met, and codes outside the lists."""

from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.data.tables import codes
from mama.data.tables.codes import CodeError

FUNCTIONS = (
    codes.density,
    codes.birads,
    codes.flag,
    codes.laterality,
    codes.view,
    codes.split,
    codes.day,
)


@pytest.mark.parametrize("nothing", ["", " ", "NULL", "nan", "NaN", "None", "n/a", "-", "<NA>"])
def test_cells_without_meaning(nothing: str) -> None:
    assert codes.meaning(nothing) is None
    assert [read(nothing) for read in FUNCTIONS] == [None] * len(FUNCTIONS)
    assert codes.sides(nothing) == ()


@pytest.mark.parametrize(
    ("read", "text", "value"),
    [
        *((codes.density, text, "C") for text in ("C", "c", "3", "3.0", "ACR C", "III", "3,0")),
        *((codes.density, text, "C") for text in ("BI-RADS C", "DENSITY C", "ACR-BIRADS 3")),
        (codes.density, "ACR b", "B"),
        (codes.density, "4", "D"),
        *((codes.birads, text, "4") for text in ("4", "4.0", "BI-RADS 4", "BIRADS: 4")),
        *((codes.birads, text, "4") for text in ("Category 4", "bi rads 4", "ACR 4")),
        (codes.birads, "4a", "4A"),
        (codes.birads, "BI-RADS 4 C", "4C"),
        (codes.birads, "0.0", "0"),
        *((codes.flag, text, True) for text in ("1", "1.0", "yes", "Y", "TRUE", "J", "ja")),
        *((codes.flag, text, False) for text in ("0", "0.0", "no", "N", "false", "nein")),
        *((codes.laterality, text, "L") for text in ("L", "LEFT", "left", "Links", "li.")),
        *((codes.laterality, text, "R") for text in ("R", "Right", "rechts", "RT")),
        *((codes.view, text, "MLO") for text in ("MLO", "mlo", "L-MLO", "RMLO", "R MLO")),
        *((codes.view, text, "CC") for text in ("CC", "cranio-caudal", "LCC")),
        (codes.view, "LM", "LM"),
        (codes.view, "LMLO", "MLO"),
        (codes.view, "LMO", "LMO"),
        (codes.view, "AT", "AT"),
        *((codes.split, text, "train") for text in ("train", "Training", "valid", "val")),
        *((codes.split, text, "test") for text in ("test", "TEST")),
        *((codes.day, text, "20210403") for text in ("2021-04-03", "20210403", "03.04.2021")),
        *((codes.day, text, "20210413") for text in ("13/04/2021", "04/13/2021", "4/13/2021")),
        (codes.day, "2021-04-03 00:00:00", "20210403"),
    ],
)
def test_spellings(read: Callable[[str], object], text: str, value: object) -> None:
    assert read(text) == value


def test_both_breasts() -> None:
    assert codes.sides("B") == codes.sides("bilateral") == ("L", "R")
    assert codes.sides("left") == ("L",)
    with pytest.raises(CodeError):
        codes.laterality("B")


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (codes.density, "E"),
        (codes.density, "5"),
        (codes.density, "BI-RADS 4"),  # an assessment in the wrong column
        (codes.density, "3.5"),
        (codes.birads, "7"),
        (codes.birads, "R2"),
        (codes.birads, "3A"),
        (codes.birads, "2$2"),
        (codes.flag, "2"),
        (codes.flag, "maybe"),
        (codes.laterality, "X"),
        (codes.view, "SPOT?"),
        (codes.split, "later"),
        (codes.day, "03/04/2021"),  # day and month cannot be known apart
        (codes.day, "2021-02-30"),
        (codes.day, "1.2E+7"),
    ],
)
def test_unknown_codes(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(CodeError, match="unknown value") as caught:
        read(text)
    assert caught.value.allowed


@given(st.text(max_size=12))
def test_any_text_has_a_meaning_or_none_or_is_refused(text: str) -> None:
    for read in FUNCTIONS:
        with suppress(CodeError):
            read(text)


@given(st.dates())
def test_dates_come_back(date: object) -> None:
    assert codes.day(f"{date}") == f"{date}".replace("-", "")
