"""Sentences on findings of one breast, and phrases by the label of a box."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.data.studies import Labels, Laterality, Sentence, Study
from mama.evaluation.pointing.texts import OTHER_PHRASE, PHRASES, finding_sentences, phrases
from tests.reports import read


def study(sentences: tuple[Sentence, ...]) -> Study:
    return Study(id="s", patient="p", split="test", images=(), sentences=sentences, labels=Labels())


def found(text: str, side: Laterality | None = "L", *labels: str) -> list[str]:
    return finding_sentences(study(read(text)), side, labels)


def test_findings_of_the_breast_are_chosen() -> None:
    report = (
        "The breasts are heterogeneously dense. There is a spiculated mass in the left breast. "
        "Possible distortion in the left upper outer quadrant. The left nipple is normal. "
        "There are calcifications in the right breast. No mass is seen in the right breast."
    )
    assert found(report) == [
        "There is a spiculated mass in the left breast.",
        "Possible distortion in the left upper outer quadrant.",
    ]
    assert found(report, "R") == ["There are calcifications in the right breast."]
    assert len(found(report, None)) == 3


def test_sentences_on_the_kinds_of_the_boxes_go_first() -> None:
    mass, specks = "A smooth mass is seen in the left breast.", "Left breast calcifications."
    assert found(f"{mass} {specks}", "L", "mass") == [mass]
    assert found(f"{mass} {specks}", "L", "Suspicious Calcification") == [specks]
    assert found(f"{mass} {specks}", "L", "mass", "calcification") == [mass, specks]
    assert found(f"{mass} {specks}", "L", "focal_asymmetry") == [mass, specks]
    assert found(f"{mass} {specks}", "L", "finding") == [mass, specks]


def test_what_is_absent_earlier_or_of_an_unknown_breast_is_not_chosen() -> None:
    assert found("No mass or calcification is seen in the left breast. The skin is normal.") == []
    text = "A mass is seen."
    unknown = Sentence(text=text, side=None, section=None)
    earlier = Sentence(text="There was a mass in the left breast.", side="L", section="comparison")
    both = Sentence(text="There are benign calcifications.", side="both", section="findings")
    one = study((unknown, earlier, both))
    assert finding_sentences(one, "L", ()) == ["There are benign calcifications."]
    assert finding_sentences(one, None, ()) == [text, "There are benign calcifications."]


def test_other_languages_are_read_by_their_table() -> None:
    german = "In der linken Brust zeigt sich ein unscharf begrenzter Herdbefund."
    sentence = Sentence(text=german, side="L", section=None)
    assert finding_sentences(study((sentence,)), "L", ()) == [german]
    assert (
        finding_sentences(study((Sentence(text="右乳肿块", side="L", section=None),)), "L", ())
        == []
    )
    assert finding_sentences(study(()), "L", ()) == []


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["mass"], [PHRASES["mass"]]),
        (["Suspicious Calcification"], [PHRASES["calcification"]]),
        (["focal_asymmetry", "asymmetry"], [PHRASES["asymmetry"]]),
        (["mass, calcification"], [PHRASES["mass"], PHRASES["calcification"]]),
        (["mass", "finding"], [PHRASES["mass"], OTHER_PHRASE]),
    ],
)
def test_phrases_follow_the_labels(labels: list[str], expected: list[str]) -> None:
    assert phrases(labels) == tuple(sorted(expected))


@given(st.lists(st.text(), min_size=1))
def test_every_label_has_a_phrase(labels: list[str]) -> None:
    known = {*PHRASES.values(), OTHER_PHRASE}
    assert 0 < len(phrases(labels)) <= len(known)
    assert known.issuperset(phrases(labels))
