"""Reports of several rows: mark-up ends with its cell, and the side of a row holds for it."""

import pytest

from mama.config.ingest import ReportsConfig
from mama.data.adapters.raw import Part
from mama.data.ingest.reports import read_text
from mama.data.studies import Labels

MESSAGE = "MSH|^~\\&|RIS\rPID|1||MRN778899||DOE^JANE\rOBX|1|TX|X||{}\r"
RTF = r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0 "


def read(*parts: Part, language: str = "auto"):
    return read_text(parts, Labels(), ReportsConfig(language=language))


def sided(found) -> list[tuple]:
    return [(s.side, s.text) for s in found.read.sentences]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (MESSAGE.format("A mass of 12 mm."), MESSAGE.format("No mass.")),
        (RTF + "A mass of 12 mm.\\par}", RTF + "No mass.\\par}"),
        ("<p>A mass of 12 mm.</p>", "No mass."),
        ("A mass of 12 mm.", MESSAGE.format("No mass.")),
    ],
)
def test_mark_up_of_each_cell_is_removed(first: str, second: str) -> None:
    mass, none = "A mass of 12 mm.", "No mass."
    assert sided(read(Part(first, "L"), Part(second, "R"))) == [("L", mass), ("R", none)]
    assert [text for _, text in sided(read(Part(first), Part(second)))] == [mass, none]


@pytest.mark.parametrize(
    ("code", "left", "right"),
    [
        ("de", "Spikulierter Herdbefund von 12 mm. BI-RADS 5.", "Kein Herdbefund. BI-RADS 1."),
        ("fr", "Opacité spiculée de 12 mm. ACR 5.", "Pas d'opacité ni de kyste. ACR 1."),
        ("es", "Nódulo espiculado. BI-RADS 5.", "No se observan nódulos. BI-RADS 1."),
        (
            "en",
            "Findings: There is a spiculated mass.\nImpression: Suspicious. BI-RADS 5.",
            "Findings: No mass.\nImpression: Negative. BI-RADS 1.",
        ),
    ],
)
def test_the_side_of_a_row_holds_in_its_own_language(code: str, left: str, right: str) -> None:
    for language in ("auto", code):
        found = read(Part(left, "L"), Part(right, "R"), language=language).read
        assert (found.language, found.birads) == (code, {"L": "5", "R": "1"})
        assert found.density is None
        assert {s.side for s in found.sentences if s.text in left} == {"L"}
        assert {s.side for s in found.sentences if s.text in right} == {"R"}
        assert found.findings.get("L") == ("mass",)
        assert "R" not in found.findings


def test_a_row_without_a_known_language_keeps_its_side() -> None:
    assert sided(read(Part("左乳肿块。", "L"), Part("正常。", "R"))) == [
        ("L", "左乳肿块。"),
        ("R", "正常。"),
    ]


def test_words_may_lead_from_a_row_to_the_other_breast() -> None:
    found = read(Part("There is a mass. The left breast has a cyst.", "R"))
    assert [side for side, _ in sided(found)] == ["R", "L"]
