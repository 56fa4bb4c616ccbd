"""Planted identifiers are removed, clinical words are not touched."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.quality.planted_reports import TEMPLATES, planted_report
from benchmarks.quality.reports import read_labelled, recall
from mama.data.reports.identifiers import redact

REPORTS = 400


def test_recall_on_planted_reports():
    found, lines = recall(REPORTS)
    assert found >= 0.95, lines


def test_the_planted_reports_are_varied():
    texts = {planted_report(seed).text for seed in range(REPORTS)}
    assert len(texts) == REPORTS >= 300
    assert len(TEMPLATES) >= 30


def test_clinical_sentences_stay_as_they_are():
    changed, count = [], 0
    for path in Path(__file__).parent.glob("labelled*.yaml"):
        for report in yaml.safe_load(path.read_text("utf-8")):
            read = read_labelled(report)
            for sentence in read.sentences:
                clean = redact(sentence.text, language=read.language)
                if not {"date", "year"} & set(clean.counts) and "Dr" not in sentence.text:
                    count += 1
                    changed += [sentence.text] if clean.text != sentence.text else []
    assert count > 300
    assert len(changed) <= 0.01 * count, changed


@pytest.mark.parametrize(
    "text",
    [
        "Mass at 12 o'clock, 2.5 cm from the nipple, 3 x 4 mm.",
        "BI-RADS 4A. Category 2.",
        "Cooper's ligaments are thickened; Paget disease is possible.",
        "Cyst at 10:00. Nodes of 12.5 x 3.4 mm.",
        "MR imaging may be helpful. May represent a cyst.",
        "Skin changes of 2000 mm2 in a 62-year-old woman.",
        "Right Breast Ultrasound shows a Simple Cyst.",
        "Dr. was informed.",
    ],
)
def test_no_identifier(text: str):
    assert redact(text, language="en").text == text
    assert redact(text, language="en").counts == {}


@pytest.mark.parametrize(
    ("text", "clean", "rule"),
    [
        ("Seen by Dr. A. Patel.", "Seen by Dr. [NAME].", "name_title"),
        ("Dr. med. Müller hat befundet.", "Dr. med. [NAME] hat befundet.", "name_title"),
        ("Patient: Doe, Jane", "Patient: [NAME]", "name_label"),
        ("Signed by Mary van der Berg", "Signed by [NAME]", "name_signed"),
        ("Jane Roe, MD", "[NAME], MD", "name_degree"),
        ("Stable since 2019.", "Stable since [DATE].", "year"),
        ("Comparison: 2017 and 2018.", "Comparison: [DATE].", "year"),
        ("Seen on 2024-03-01.", "Seen on [DATE].", "date"),
        ("Seen on 03/01/2024.", "Seen on [DATE].", "date"),
        ("Am 1.3.2024 untersucht.", "Am [DATE] untersucht.", "date"),
        ("March 3, 2019", "[DATE]", "date"),
        ("3 mars 2019", "[DATE]", "date"),
        ("20240301", "[DATE]", "date"),
        ("MRN 778899", "MRN [ID]", "id"),
        ("Accession: MG-12345", "Accession: [ID]", "id"),
        ("(ext. 4471)", "(ext. [PHONE])", "phone"),
        ("Call (555) 123-4567.", "Call [PHONE].", "phone"),
        ("j.doe@mail.example.org", "[EMAIL]", "email"),
        ("at 12 Oak Street, Springfield, IL 62701.", "at [ADDRESS].", "address"),
        ("Hauptstraße 12, 10115 Berlin", "[ADDRESS]", "address"),
        ("A 93-year-old woman.", "A [AGE]-year-old woman.", "age"),
    ],
)
def test_identifiers(text: str, clean: str, rule: str):
    found = redact(text, language="en")
    assert (found.text, found.counts) == (clean, {rule: 1})
    assert redact(text, "keep").text == text
    assert redact(text, "keep").counts == {rule: 1}
    refused = redact(text, "refuse")
    assert (refused.refused, refused.text) == (True, "")


@pytest.mark.parametrize(
    ("language", "text", "left"),
    [
        ("en", "Dr J Smith, consultant", "Dr [NAME], consultant"),
        ("en", "cc: Dr A Patel", "cc: Dr [NAME]"),
        ("en", "Signed: J Smith", "Signed: [NAME]"),
        ("en", "PATIENT NAME: DOE JANE MARIE", "PATIENT NAME: [NAME]"),
        ("en", "PATIENT: DOE JANE BILATERAL MAMMOGRAM", "PATIENT: [NAME] BILATERAL MAMMOGRAM"),
        ("en", "Patient: Łukasz Żółć", "Patient: [NAME]"),
        ("en", "Patient: Δήμητρα Παππά", "Patient: [NAME]"),
        ("en", "Patient: 王小明", "Patient: [NAME]"),
        ("en", "Pt: Doe, Jane", "Pt: [NAME]"),
        ("en", "Name.....: Doe, Jane", "Name.....: [NAME]"),
        ("en", "Radiologist - John Smith", "Radiologist - [NAME]"),
        ("en", "John Smith\nConsultant Radiologist", "[NAME]\nConsultant Radiologist"),
        ("en", "Mrs O'Brien-Smith has", "Mrs [NAME] has"),
        ("en", "DOB: 1950", "DOB: [DATE]"),
        ("en", "Hosp No K123456", "Hosp No [ID]"),
        ("en", "MRN 123", "MRN [ID]"),
        ("en", "Seen on the 3rd of March.", "Seen on the [DATE]."),
        ("en", "It may 3 weeks later be seen.", "It may 3 weeks later be seen."),
        ("it", "Dr.ssa Bianchi", "Dr.ssa [NAME]"),
        ("nl", "mw. A. Jansen", "mw. [NAME]"),
        ("fr", "Pr. Lefèvre", "Pr. [NAME]"),
        ("fr", "vue le 12 mars", "vue le [DATE]"),
        ("es", "Fdo: Ana Pérez", "Fdo: [NAME]"),
        ("es", "Ana Pérez, M.D.", "[NAME], M.D."),
        ("de", "MTRA: Schulze", "MTRA: [NAME]"),
        ("de", "Untersucher: Schmidt", "Untersucher: [NAME]"),
        ("de", "Erika Müller, geb. 1950", "[NAME], geb. [DATE]"),
        (
            "es",
            "Quistes MD, Mastectomía MD, Prótesis MI",
            "Quistes MD, Mastectomía MD, Prótesis MI",
        ),
        ("es", "BI-RADS MD 2, MI 5", "BI-RADS MD 2, MI 5"),
        ("pt", "BI-RADS MD 2, ME 4A. Mamoplastia MD.", "BI-RADS MD 2, ME 4A. Mamoplastia MD."),
    ],
)
def test_identifiers_of_other_forms(language: str, text: str, left: str):
    assert redact(text, language=language).text == left


PARTS = st.sampled_from(
    [
        "Dr. ",
        "Smith",
        "12",
        "/",
        "2019",
        " ",
        "-",
        "MRN ",
        "by ",
        "[NAME]",
        ".",
        "A",
        "March ",
        "@x.y",
    ]
)


@given(st.one_of(st.text(), st.lists(PARTS, max_size=12).map("".join)))
def test_redaction_is_idempotent(text: str):
    clean = redact(text).text
    assert redact(clean).text == clean
    assert redact("No mass.", "refuse").refused is False
