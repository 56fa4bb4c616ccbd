"""Reports are cut into sentences without losing a character, and filtered by side."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.data.sentences import for_side, split_sentences

REPORT = """\
FINDINGS:
The breasts are heterogeneously dense, which may obscure small masses. A 1.5 cm
oval mass is seen in the left breast, approx. 3 cm from the nipple. Category C. No calcification.

RIGHT BREAST: No mass. No distortion.
LEFT BREAST:
1. Mass with spiculated margins.
IMPRESSION:
BI-RADS 4. Biopsy of the L breast advised.Both axillae are normal!
"""


def test_a_whole_report():
    assert split_sentences(REPORT) == (
        "FINDINGS: The breasts are heterogeneously dense, which may obscure small masses.",
        "A 1.5 cm oval mass is seen in the left breast, approx. 3 cm from the nipple.",
        "Category C.",
        "No calcification.",
        "RIGHT BREAST: No mass.",
        "No distortion.",
        "LEFT BREAST: 1. Mass with spiculated margins.",
        "IMPRESSION: BI-RADS 4.",
        "Biopsy of the L breast advised.",
        "Both axillae are normal!",
    )


@pytest.mark.parametrize(
    ("report", "sentences"),
    [
        ("", ()),
        (" \n ", ()),
        ("one sentence without a stop", ("one sentence without a stop",)),
        ("all lower case. no mass.", ("all lower case.", "no mass.")),
        ("Seen by Dr. Roe. Stable vs. 2019.", ("Seen by Dr. Roe.", "Stable vs. 2019.")),
        ("There is no. 2 nodules", ("There is no.", "2 nodules")),
        ("No mass\nNo calcification", ("No mass", "No calcification")),
        ("A mass,\nround and smooth", ("A mass, round and smooth",)),
        ("- No mass.\n- Cyst (2 cm).", ("- No mass.", "- Cyst (2 cm).")),
        ("FINDINGS:", ("FINDINGS:",)),
    ],
)
def test_cuts(report: str, sentences: tuple[str, ...]):
    assert split_sentences(report) == sentences


def test_sides():
    sentences = split_sentences(REPORT)
    only_left, only_right = (set(for_side(sentences, side)) for side in ("L", "R"))
    assert set(sentences) - only_left == {"RIGHT BREAST: No mass.", "No distortion."}
    assert set(sentences) - only_right == {
        "A 1.5 cm oval mass is seen in the left breast, approx. 3 cm from the nipple.",
        "LEFT BREAST: 1. Mass with spiculated margins.",
        "Biopsy of the L breast advised.",
    }
    assert for_side(sentences, None) == sentences


@pytest.mark.parametrize(
    ("sentence", "sides"),
    [
        ("Mass in the right breast.", "R"),
        ("Lt breast: cyst.", "L"),
        ("Best seen on RMLO.", "R"),
        ("R breast normal.", "R"),
        ("Larger on the left than on the right.", "LR"),
        ("Bilateral implants, left ruptured.", "LR"),
        ("Calcifications in both breasts.", "LR"),
        ("Upright position, class L.", "LR"),
        ("Dense tissue.", "LR"),
    ],
)
def test_side_of_a_sentence(sentence: str, sides: str):
    assert "".join(side for side in "LR" if for_side([sentence], side)) == sides


WORDS = st.sampled_from(
    [*" \n.:!?,1(LR", "Left breast", "right", "mass", "1.5 cm", "e.g.", "No", "RCC"]
)
REPORTS = st.one_of(st.text(), st.lists(WORDS).map("".join))


@given(REPORTS)
def test_no_text_is_lost(report: str):
    sentences = split_sentences(report)
    assert "".join("".join(sentences).split()) == "".join(report.split())
    assert all(sentence == sentence.strip() != "" for sentence in sentences)


@given(REPORTS)
def test_every_sentence_is_kept_for_a_side_in_order(report: str):
    sentences = split_sentences(report)
    left, right = for_side(sentences, "L"), for_side(sentences, "R")
    assert set(left) | set(right) == set(sentences)
    rest = iter(sentences)
    assert all(sentence in rest for sentence in left)
