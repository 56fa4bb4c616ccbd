"""A report is read without losing a character, in the order of what matters."""

import subprocess
import sys
import time
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.data.reports.conflicts import conflicts_with
from mama.data.reports.formats import plain
from mama.data.reports.language import codes, load_language
from mama.data.reports.read import ReadReport, read_report
from mama.data.studies import Labels

EN = load_language("en")


def read(text: str) -> ReadReport:
    return read_report(text, EN)


def sided(text: str) -> list[tuple[str, str | None]]:
    return [(sentence.text, sentence.side) for sentence in read(text).sentences]


def test_a_whole_report():
    report = read(
        "EXAM: Bilateral screening mammogram\nCOMPARISON: None.\n"
        "FINDINGS: The breasts are extremely dense. Right breast: There is a mass. It is new.\n"
        "Left breast: No mass.\nIMPRESSION: Right BI-RADS 4A. Left BI-RADS 1.\n"
        "Dr. Roe was informed."
    )
    assert [(s.text, s.side, s.section) for s in report.sentences] == [
        ("FINDINGS: The breasts are extremely dense.", "both", "findings"),
        ("Right breast: There is a mass.", "R", "findings"),
        ("It is new.", "R", "findings"),
        ("Left breast: No mass.", "L", "findings"),
        ("IMPRESSION: Right BI-RADS 4A.", "R", "impression"),
        ("Left BI-RADS 1.", "L", "impression"),
        ("COMPARISON: None.", "both", "comparison"),
    ]
    assert report.dropped == ("EXAM: Bilateral screening mammogram", "Dr. Roe was informed.")
    assert (report.birads, report.study_birads) == ({"R": "4A", "L": "1"}, "4A")
    assert (report.density, report.findings) == ("D", {"R": ("mass",)})
    assert report.language == "en"


@pytest.mark.parametrize(
    ("code", "text", "side"),
    [
        ("en", "On the left a cluster of calcifications. No mass. On the right no finding.", "L"),
        ("de", "Rechts ein Herd von 8 mm. Kein Mikrokalk. Links kein Herd.", "R"),
        (
            "it",
            "A destra nodulo di 9 mm. Assenza di calcificazioni. A sinistra nulla.",
            "R",
        ),
        ("en", "On the left a cluster of calcifications. No mass. Dense tissue.", "both"),
    ],
)
def test_what_is_absent_between_two_sides_is_of_the_first(code: str, text: str, side: str):
    sentences = read_report(text, load_language(code)).sentences
    assert sentences[1].side == side


def test_categories_on_both_sides_of_a_stroke():
    assert read("ACR BI-RADS 3 left/4A right.").birads == {"L": "3", "R": "4A"}
    assert read("BI-RADS 0 RT/1 LT").birads == {"L": "1", "R": "0"}


@pytest.mark.parametrize(
    ("text", "side"),
    [
        ("Unilateral right mammogram. A 4 mm mass in the outer breast.", "R"),
        ("MAMMO LEFT ONLY\nGrouped calcifications in the upper breast.", "L"),
        ("Scar in the left breast. Grouped calcifications next to the scar.", "L"),
        ("The left breast is denser than the right. In the latter there is a mass.", "R"),
        ("BREAST DENSITY: The tissue is dense. A dilated duct is present.", None),
        ("Focal asymmetry in the left breast. No underlying mass.", "L"),
    ],
)
def test_the_last_sentence_is_about(text: str, side: str | None):
    by_place = sorted(read(text).sentences, key=lambda s: text.index(s.text))
    assert by_place[-1].side == side


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        ("There is a mass in the right breast and the left breast is normal.", ["R", "L"]),
        ("- Right: mass - Left: normal", ["R", "L"]),
        ("The lesion (L) is oval. It measures 12 mm.", ["L", "L"]),
        ("Masses in the right and left breasts.", ["both"]),
        ("Denser on the left than on the right.", ["both"]),
        ("Mass in RB, LB clear.", ["R", "L"]),
        ("Cyst at 12 o'clock position of the left breast, seen on both views.", ["L"]),
        ("Nodule at either 9 or 10 o'clock.", [None]),
        ("Nodule LUOQ. The contralateral breast is clear.", ["L", "R"]),
        ("Best seen on the RMLO.", ["R"]),
        ("There is no evidence of malignancy.", ["both"]),
        ("There is an oval mass.", [None]),
        ("Neither breast shows a mass.", ["both"]),
        ("Seen with L. Smith. No mass.", ["both", "both"]),
        ("Left mass. Right cyst. Both are stable.", ["L", "R", "both"]),
        ("RIGHT BREAST\nMass.\nLEFT BREAST\nNo mass.", ["R", "L"]),
        ("Left mass. Right cyst. The cyst is stable. The mass has grown.", ["L", "R", "R", "L"]),
        ("Left mass. Right cyst. The former is new. The latter is old.", ["L", "R", "L", "R"]),
        ("Right mass. No mass on the other side. It is spiculated.", ["R", "L", "R"]),
        ("Right mass. No mass on the left. It is spiculated.", ["R", "L", "R"]),
        ("Right mass. No mass on the left. The skin on that side is thick.", ["R", "L", "L"]),
        ("Right mass. None on the other side. Ipsilateral adenopathy.", ["R", "L", "R"]),
        ("Left breast, 2 o'clock. Oval mass.", ["L", "L"]),
        ("", []),
    ],
)
def test_sides(text: str, sides: list[str | None]):
    assert [side for _, side in sided(text)] == sides


@pytest.mark.parametrize(
    ("code", "text", "birads"),
    [
        ("en", "BIRADS R-2, L-4a", {"R": "2", "L": "4A"}),
        ("en", "BI-RADS: R2 L5", {"R": "2", "L": "5"}),
        ("en", "BI-RADS 2 R, 4A L.", {"R": "2", "L": "4A"}),
        ("en", "Birads 4 right / Birads 1 left.", {"R": "4", "L": "1"}),
        ("en", "Left BI-RADS4b, right BI-RADS1", {"R": "1", "L": "4B"}),
        ("en", "BI-RADS(R) 2.", {}),
        ("en", "BI-RADS 2. Degenerative change at L5.", {}),
        ("de", "BI-RADS: rechts: II, links: IVb", {"R": "2", "L": "4B"}),
        ("de", "BI-RADS li. 4b, re. 1", {"R": "1", "L": "4B"}),
        ("fr", "Classification ACR : D 2, G 5.", {"R": "2", "L": "5"}),
        ("fr", "ACR 2 à D, ACR 4 à G.", {"R": "2", "L": "4"}),
        ("es", "BI-RADS: D 2 I 4", {"R": "2", "L": "4"}),
        ("nl", "BI-RADS rechts III, links II.", {"R": "3", "L": "2"}),
        ("pt", "BI-RADS: D4A e E2", {"R": "4A", "L": "2"}),
    ],
)
def test_categories_of_both_breasts(code: str, text: str, birads: dict[str, str]):
    report = read_report(text, load_language(code))
    assert report.birads == birads
    assert report.density is None


def test_the_latin_genitive_names_one_breast():
    report = read_report("Carcinoma mammae links, 14 mm. BI-RADS 6.", load_language("de"))
    assert report.sentences[0].side == "L"


def test_without_a_table_no_side_is_known():
    report = read_report("左乳见肿块。右乳正常。", None)
    assert [(s.text, s.side) for s in report.sentences] == [
        ("左乳见肿块。", None),
        ("右乳正常。", None),
    ]
    assert report.language is None


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        ("BI-RADS 0. Addendum: BI-RADS 2.", ("birads_disagree",)),
        ("Left: BI-RADS 5. Overall: BI-RADS 2", ("birads_below_breast",)),
        ("Right breast: spiculated mass. Right: BI-RADS 1.", ("birads_1_with_finding",)),
        ("Density: C. The breasts are extremely dense.", ("density_disagree",)),
        ("Left breast mass, BI-RADS 4. Left breast cyst, BI-RADS 2.", ()),
    ],
)
def test_conflicts(text: str, codes: tuple[str, ...]):
    assert read(text).conflicts == codes


def test_conflicts_with_a_table():
    labels = Labels(density="B", suspicious={"L": False, "R": False})
    assert conflicts_with({"L": "5"}, "C", labels) == ("density_table", "birads_table")
    assert conflicts_with({"L": "0", "R": "2"}, "B", labels) == ()
    assert conflicts_with({"R": "1"}, None, Labels(suspicious={"R": True})) == ("birads_table",)


WORDS = st.sampled_from(
    [
        *(*" \n.:!?,;1(L)R-", "Left breast", "right", "mass", "1.5 cm", "e.g.", "No", "RCC"),
        *(
            "FINDINGS:",
            "and",
            "both",
            "TECHNIQUE: ",
            "Dr. ",
            "。",
            "bilateral",
            "density C",
            " it ",
        ),
    ]
)
TEXTS = st.one_of(st.text(), st.lists(WORDS).map("".join))


@given(TEXTS, st.sampled_from([None, *codes()]))
def test_no_character_is_lost(text: str, code: str | None):
    report = read_report(text, load_language(code) if code else None)
    kept = [*(sentence.text for sentence in report.sentences), *report.dropped]
    assert Counter("".join("".join(kept).split())) == Counter("".join(plain(text).split()))
    assert all(sentence == " ".join(sentence.split()) != "" for sentence in kept)


HOSTILE = (
    *("no ", "left right ", "BI-RADS ", "density a ", "L: ", "a:", "mass, ", "and left is ", "("),
    *("A. ", "1.", "the mass and ", "right breast - ", "\\", "<b>", "{\\rtf ", "OBX|", "e.g. "),
)


@pytest.mark.parametrize("part", HOSTILE)
def test_a_hostile_report_takes_linear_time(part: str):
    def seconds(length: int) -> float:
        started = time.process_time()
        read(part * (length // len(part)))
        return time.process_time() - started

    assert seconds(20_000) < 10  # seconds; a quadratic rule takes minutes


def test_reading_needs_no_torch():
    code = (
        "import sys, mama.data.reports.read, mama.data.reports.identifiers\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_quadrant_without_its_breast_names_no_side():
    text = (
        "RIGHT BREAST: There is a 12 mm mass in the LOQ, a cyst in the LIQ.\nLEFT BREAST: Normal."
    )
    sides = [s.side for s in read_report(text, load_language("en")).sentences]
    assert sides == ["R", "L"]
