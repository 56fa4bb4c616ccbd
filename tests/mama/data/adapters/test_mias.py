"""The label table of mini-MIAS, as labels and as report text."""

import re
from pathlib import Path

import pytest
import yaml
from PIL import Image

from mama.data.adapters import mias_wording as wording
from mama.data.adapters.mias import patient_number, read
from mama.data.studies import Labels
from mama.errors import DataError
from tests import reports
from tests.reports import about

ROOT = Path(__file__).parents[4]
PROMPTS = yaml.safe_load((ROOT / "configs" / "mias.yaml").read_text())["evaluation"]
TABLES = (wording.DENSITY, wording.FINDINGS, wording.IMPRESSIONS, {"": wording.NORMAL})
TEMPLATES = [text for table in TABLES for texts in table.values() for text in texts]


def test_films_are_paired_and_labelled(films: Path):
    first, second, third = read(films).studies
    assert [len(study.images) for study in (first, second, third)] == [2, 2, 1]
    assert [(image.id, image.laterality) for image in first.images] == [
        ("mdb001", "R"),
        ("mdb002", "L"),
    ]
    assert {image.view for image in first.images} == {"MLO"}
    assert first.patient != second.patient
    assert first.split is None
    assert first.labels == Labels(density="G", suspicious={"R": True, "L": False})
    assert second.labels == Labels(density="D", suspicious={"R": False, "L": False})


def test_a_film_without_a_row_has_neither_labels_nor_report(films: Path):
    third = read(films).studies[2]
    assert third.labels == Labels()
    assert third.report is None
    (films / "labels").unlink()
    assert all(study.labels == Labels() and study.report is None for study in read(films).studies)


def test_reports_say_what_the_table_says(films: Path):
    first, second, _ = read(films).studies
    sentences = reports.read(first.report)
    assert len(sentences) == 1 + 3 + 1  # density, two findings and an impression, a normal side
    assert sentences[0].text in wording.DENSITY["G"]
    right, left = about(sentences, "R")[1:], about(sentences, "L")[1:]
    assert right[0] in _rendered(wording.FINDINGS["CIRC"], "right")
    assert right[1] in _rendered(wording.FINDINGS["SPIC"], "right")
    assert right[2] in _rendered(wording.IMPRESSIONS[True], "right")
    assert left[0] in _rendered(wording.NORMAL, "left")
    assert len(left) == 1
    assert about(reports.read(second.report), "L")[-1] in _rendered(
        wording.IMPRESSIONS[False], "left"
    )
    assert read(films).studies[0].report == first.report


def test_pgm_and_films_beside_the_table(films: Path):
    for path in (films / "png").glob("*.png"):
        Image.open(path).save(films / path.with_suffix(".pgm").name)
        path.unlink()
    (films / "png").rmdir()
    assert [len(study.images) for study in read(films).studies] == [2, 2, 1]


def test_breasts_of_different_density_leave_it_open(films: Path):
    (films / "labels").write_text("mdb001 G NORM\nmdb002 D NORM\n")
    study = read(films).studies[0]
    assert study.labels.density is None
    assert len(reports.read(study.report)) == 2


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("mdb002 X NORM", "labels, line 2, column 'tissue': unknown.*Use one of F, G, D"),
        ("mdb002 G MASS B", "line 2, column 'class'.*Use one of CALC, .*NORM"),
        ("mdb002 G CIRC", "line 2, column 'severity'.*Use one of B, M"),
        ("film2 G NORM", "line 2, column 'film'.*mdbNNN"),
        ("mdb001 F CIRC B", "line 2, column 'tissue': the tissue differs"),
    ],
)
def test_mistakes_in_the_table(films: Path, row: str, says: str):
    (films / "labels").write_text(f"mdb001 G NORM\n{row}\n")
    with pytest.raises(DataError, match=says):
        read(films)


def test_patients_are_pairs():
    assert [patient_number(film) for film in (1, 2, 3, 4, 321, 322)] == [1, 1, 2, 2, 161, 161]


def test_wording_is_varied_and_of_one_sentence():
    assert all(len(set(texts)) == len(texts) >= 8 for texts in wording.DENSITY.values())
    assert len(set(TEMPLATES)) == len(TEMPLATES)
    for template in TEMPLATES:
        assert len(reports.read(template.format(side="left"))) == 1, template
    for template in (text for table in TABLES[1:] for texts in table.values() for text in texts):
        assert about(reports.read(template.format(side="left")), "R") == (), template


def test_paraphrases_are_all_drawn():
    drawn = {wording.render(f"patient {number}", "F", {}) for number in range(300)}
    assert drawn == set(wording.DENSITY["F"])


def test_prompts_are_in_words_of_their_own():
    assert {name: set(classes) for name, classes in PROMPTS.items()} == {
        "density": {"F", "G", "D"},
        "suspicious": {"no", "yes"},
    }
    prompts = [text for classes in PROMPTS.values() for texts in classes.values() for text in texts]
    assert len(set(prompts)) == len(prompts)
    trained = set().union(
        *(_trigrams(text.format(side=side)) for text in TEMPLATES for side in ("left", "right"))
    )
    for prompt in prompts:
        assert not _trigrams(prompt) & trained, prompt
        assert prompt not in (text.lower().rstrip(".") for text in TEMPLATES)


def _rendered(templates: tuple[str, ...], side: str) -> list[str]:
    return [template.format(side=side) for template in templates]


def _trigrams(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"[a-z]+", text.lower())
    return set(zip(words, words[1:], words[2:], strict=False))
