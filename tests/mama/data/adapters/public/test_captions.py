"""Reports in words of tables: what they say, and that every code has words."""

import re

from hypothesis import given
from hypothesis import strategies as st

from mama.data.adapters.public import cbis_ddsm, cdd_cesm, dmid, embed_codes, inbreast, vindr
from mama.data.adapters.public.captions import Breast, Finding, english, kinds, render
from mama.data.adapters.public.draft import SEVERITY

KINDS = st.sampled_from(sorted(english().findings))


def test_density_findings_and_categories_of_each_breast() -> None:
    left = Breast("4A", cancer=True, findings=[Finding("mass", ("irregular",))], described=True)
    right = Breast("1", described=True)
    text = render("study", "C", {"L": left, "R": right})
    assert text is not None
    assert "dense" in text.lower()
    assert "an irregular mass" in text
    assert "BI-RADS 4A" in text
    assert "BI-RADS 1" in text
    sentences = text.split(". ")
    assert [bool(re.search("irregular", s)) == ("left" in s) for s in sentences if "mass" in s]
    assert sum("right breast" in s for s in sentences) == 2


def test_articles() -> None:
    assert "a round, dense mass" in str(
        render("k", None, {"L": Breast(findings=[Finding("mass", ("round", "dense"))])})
    )
    assert "an asymmetry" in str(render("k", None, {"L": Breast(findings=[Finding("asymmetry")])}))
    clustered = Breast(findings=[Finding("calcification", ("clustered",))])
    assert re.search(
        r"\b(is|shows) clustered calcifications", str(render("k", None, {"L": clustered}))
    )


def test_nothing_known_is_no_report() -> None:
    assert render("study", None, {}) is None
    assert render("study", None, {"L": Breast()}) is None


def test_pathology_is_never_rendered() -> None:
    breast = Breast("2", described=True)
    texts = {
        render("study", "B", {"R": Breast("2", cancer=cancer, described=True)})
        for cancer in (True, False, None)
    }
    assert texts == {render("study", "B", {"R": breast})}


def test_every_code_of_every_set_has_words() -> None:
    words = english()
    used = {*cbis_ddsm.OTHER_SHAPES.values(), *cdd_cesm.KINDS.values()}
    for table in (dmid.KINDS, embed_codes.SHAPES, inbreast.OUTLINES, vindr.KINDS):
        used |= {finding.kind for finding in table.values() if finding}
    assert used <= set(words.findings)
    assert set(words.birads) == set(SEVERITY)
    assert {"A", "B", "C", "D", "F", "G"} == set(words.density)
    for templates in words.birads.values():
        assert all("{side}" in template for template in templates)


@given(st.text(max_size=9), st.lists(st.builds(Finding, KINDS), max_size=4))
def test_the_same_study_has_the_same_words(key: str, findings: list[Finding]) -> None:
    breasts = {"L": Breast("3", findings=findings, described=True)}
    text = render(key, "A", breasts)
    assert text == render(key, "A", breasts)
    assert "{" not in str(text)
    for finding in findings:
        assert english().findings[finding.kind] in str(text)
    assert kinds(findings) == tuple(sorted({finding.kind for finding in findings}))
