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


BODY = "PID|1||778899||DOE^JANE\rOBX|1|TX|X||Left: mass.\rOBX|2|TX|X||Right: clear.\r"


@pytest.mark.parametrize(
    "report",
    [
        "ORC|RE|778899|A1\r" + BODY,
        "PV1|1|O|||||7^DOE^JOHN\r" + BODY,
        "FHS|^~\\&|A\rBHS|^~\\&|A\rMSH|^~\\&|RIS\r" + BODY,
        "Report of DOE JANE\nMSH|^~\\&|RIS\n" + BODY.replace("\r", "\n"),
        "MSH|^~\\&|RIS " + BODY.replace("\r", " "),
        r"MSH|^~\&|RIS\r" + BODY.replace("\r", r"\r"),
        "MSH#^~\\&#RIS\r" + BODY.replace("|", "#"),
        "MSH|^~\\&|RIS\rPID|1||778899||DOE^JANE\rNTE|1||Left: mass.\rNTE|2||Right: clear.\r",
        r"{\rtf1{\headerl DOE JANE 778899}{\headerr DOE}{\footerf DOE}{\annotation DOE}"
        r"{\rsidtbl DOE}Left: {\deleted DOE }{\v DOE \b DOE}\v DOE\v0 mass.\par Right: clear.}",
        "Report\n{\\rtf1 {\\footnote DOE}Left: mass.\\par Right: clear.}",
        r"\rtf1\ansi Left: mass.\par Right: clear.",
        "<ClinicalDocument><recordTarget><patient><name>DOE</name></patient></recordTarget>"
        "<author>DOE</author><component><section><title>Report</title><text>"
        "<paragraph>Left: mass.</paragraph><paragraph>Right: clear.</paragraph></text></section>"
        "</component></ClinicalDocument>",
        "<report><PatientName>DOE</PatientName><text>Left: mass.</text>"
        "<text>Right: clear.</text></report>",
        "Left: <strong>mass</strong>.<hr>Right: <em>clear</em>.",
        "<tr><td>Left: mass.</td></tr><tr><td>Right: clear.</td></tr>",
        "Left: <u>mass</u>.&#10;<i>Right:</i>&#32;clear.",
        "Left: mass.&#13;&#10;Right: clear.",
        "&lt;p&gt;Left: mass.&lt;/p&gt;&lt;p&gt;Right: clear.&lt;/p&gt;",
        "<![CDATA[Left: mass.\nRight: clear.]]>",
        r"Left: mass.\nRight: clear.",
        r"Left: mass.\r\nRight: clear.",
        '{"resourceType": "DiagnosticReport", "id": "DOE", "subject": {"display": "DOE JANE"},'
        ' "conclusion": "Left: mass.\\nRight: clear."}',
        '{"patient_name": "DOE", "report": "<p>Left: mass.</p>Right: clear."}',
    ],
)
def test_only_the_text_of_an_export_is_read(report: str):
    lines = [" ".join(line.split()) for line in plain(report).split("\n")]
    assert [line for line in lines if line not in ("", "Report")] == [
        "Left: mass.",
        "Right: clear.",
    ]


@pytest.mark.parametrize(
    "report",
    [
        "A mass <5 mm; nodes < 1 cm, > 3 of them & a cyst.",
        "<< RIGHT >> mass, <LEFT> clear; R&L.",
        "{mass} [NAME] 3|4 PID 5",
        "Mass L>R.\tNone.",
    ],
)
def test_signs_in_prose_are_no_mark_up(report: str):
    assert plain(report) == report


def test_elements_of_xml_become_headings():
    text = plain("<r><findings>Mass.</findings><impression>BI-RADS 4</impression></r>")
    assert [line for line in text.split("\n") if line] == [
        "findings: Mass.",
        "impression: BI-RADS 4",
    ]


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
