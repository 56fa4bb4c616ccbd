"""Nothing from another machine moves the cursor, hides text or takes a second line."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.system.logs import MAX_TEXT, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("training failed", "training failed"),
        ("année, 9 %", "année, 9 %"),
        ("\x1b]0;pwned\x07\x1b[2Jx", "]0;pwned  [2Jx"),
        ("one\r\nalder: all is well", "one  alder: all is well"),
        ("\u202egnp.exe", "gnp.exe"),
        ("a\u2028b\x9bc\x85d", "a b c d"),
        ("", ""),
    ],
)
def test_what_a_terminal_obeys_becomes_a_space(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text(max_size=400))
def test_any_text_is_one_printable_line(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= MAX_TEXT
    assert shown.isprintable()
    assert not any(unicodedata.category(c).startswith("C") for c in shown)
    assert printable(shown) == shown


def test_a_long_text_says_that_it_was_cut() -> None:
    assert printable("x" * 5_000_000) == "x" * (MAX_TEXT - 1) + "…"
    assert printable("x" * MAX_TEXT) == "x" * MAX_TEXT
