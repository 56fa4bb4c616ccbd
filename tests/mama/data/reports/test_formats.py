"""Mark-up of exports is removed, the text stays."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.data.reports.formats import plain

HL7 = (
    "MSH|^~\\&|RIS|H|PACS|H|20240301||ORU^R01|1|P|2.3\rPID|1||778899||DOE^JANE\r"
    "OBX|1|TX|GDT||Left: mass \\T\\ cyst\\.br\\5 mm~second\\X0D\\third \\F\\ \\S\\ \\R\\ \\E\\"
    "||||||F\rOBX|2|FT|GDT||\\H\\Bold\\N\\ end||||||F\rOBX|3|NM|AGE||55||||||F\r"
    "OBX|4|CWE|X||R92^Mass^ICD||||||F"
)


@pytest.mark.parametrize(
    ("report", "text"),
    [
        ("No mass.\r\nClear.\rEnd", "No mass.\nClear.\nEnd"),
        ("\ufeffNo mass.", "No mass."),
        ("a mass < 1 cm and > 5 mm", "a mass < 1 cm and > 5 mm"),
        ("<b>Left:</b> 5&nbsp;mm &lt; 1 cm", "Left: 5\xa0mm < 1 cm"),
        ("<p>One<br>two</p>", "\nOne\ntwo\n"),
        ("<html><head><title>T</title><style>x{}</style></head><body>Text</body></html>", "Text"),
        ("Line\\.br\\next", "Line\nnext"),
        (r"{\rtf1\ansi{\fonttbl{\f0 Arial;}}\f0 One\par Two\tab 3}", "One\nTwo 3"),
        (r"{\rtf1\ansi\ansicpg1252 na\'efve \u8211?x {\*\generator Word}\{y\}}", "naïve –x {y}"),
        (HL7, "Left: mass & cyst\n5 mm\nsecond\nthird | ^ ~ \\\nBold end\nMass"),
    ],
)
def test_formats(report: str, text: str):
    assert plain(report) == text


def test_other_segments_of_a_message_are_left_out():
    assert not any(word in plain(HL7) for word in ("DOE", "778899", "55", "R92"))


MARKS = st.sampled_from(
    [
        "{\\rtf1",
        "\\par ",
        "\\'e",
        "\\u12 ",
        "}",
        "{",
        "<p>",
        "<",
        "&amp;",
        "OBX|1|TX|",
        "\\.br\\",
        "~",
        "x ",
    ]
)


@given(st.one_of(st.text(), st.lists(MARKS).map("".join)))
def test_any_text_is_read(report: str):
    assert "\r" not in plain(report)
