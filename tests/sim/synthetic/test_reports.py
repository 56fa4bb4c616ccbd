"""Reports: varied, sided, true to the findings, and unlike the zero-shot prompts."""

import re
from pathlib import Path
from string import Formatter
from typing import get_args

import numpy as np
import pytest
import yaml

from sim.synthetic.lesions import Finding
from sim.synthetic.phantom import Phantom, Side
from sim.synthetic.reports import TEMPLATES, Style, quadrant, write_report
from tests.reports import about, read

PROMPTS = Path(__file__).parents[3] / "configs" / "quickstart.yaml"
STYLES: tuple[Style, ...] = get_args(Style)


def finding(kind: str) -> Finding:
    return Finding(kind, 0.5, 0.2, -0.3, 1.0, 0)  # type: ignore[arg-type]


def patient(**kinds: tuple[str, ...]) -> Phantom:
    sides: tuple[Side, ...] = ("L", "R")
    return Phantom("C", {side: tuple(map(finding, kinds.get(side, ()))) for side in sides}, ())


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9-]+", text.lower())


def runs(text: str, length: int = 4) -> set[tuple[str, ...]]:
    tokens = words(text)
    return {tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)}


@pytest.mark.parametrize("style", STYLES)
def test_a_style_has_at_least_thirty_paraphrases(style: Style) -> None:
    templates = [template for topic in TEMPLATES[style].values() for template in topic]
    assert len(set(templates)) == len(templates) >= 30
    assert all(len(set(topic)) >= 3 for topic in TEMPLATES[style].values())


@pytest.mark.parametrize("style", STYLES)
def test_every_sentence_but_density_names_its_side(style: Style) -> None:
    for topic, templates in TEMPLATES[style].items():
        for template in templates:
            fields = {name for _, name, _, _ in Formatter().parse(template) if name}
            assert ("side" in fields) == (topic not in "ABCD")


@pytest.mark.parametrize("style", STYLES)
def test_ingest_cuts_a_report_into_the_sentences_of_each_side(style: Style) -> None:
    study = patient(L=("spiculated", "scattered"), R=())
    for seed in range(20):
        sentences = read(write_report(np.random.default_rng(seed), study, style))
        assert (
            len(sentences) == 6
        )  # density; two findings and an impression; nothing and an impression
        left, right = about(sentences, "L"), about(sentences, "R")
        assert (len(left), len(right)) == (4, 3)
        assert not any(re.search(r"\bright\b", sentence, re.I) for sentence in left)
        assert not any(re.search(r"\bleft\b", sentence, re.I) for sentence in right)


@pytest.mark.parametrize("style", STYLES)
def test_the_impression_follows_the_findings(style: Style) -> None:
    def rendered(topic: str) -> set[str]:
        return {template.format(side="left").lower() for template in TEMPLATES[style][topic]}

    for seed in range(20):
        rng = np.random.default_rng(seed)
        for kind, topic in (("cluster", "suspicious"), ("smooth", "benign")):
            sentences = read(write_report(rng, patient(L=(kind,)), style))
            # The density of the breasts comes after findings and impression.
            named = [s.text for s in sentences if s.side == "L"]
            assert named[-1].lower() in rendered(topic)


def test_reports_follow_the_seed_and_vary() -> None:
    study = patient(L=("cluster",))
    texts = [write_report(np.random.default_rng(seed), study, "prose") for seed in range(20)]
    assert texts[3] == write_report(np.random.default_rng(3), study, "prose")
    assert len(set(texts)) > 15


def test_a_quadrant_is_named_after_the_finding() -> None:
    assert quadrant(Finding("smooth", 0.5, 0.2, -0.3, 1.0, 0)) == "lower outer"
    assert quadrant(Finding("smooth", 0.5, -0.2, 0.3, 1.0, 0)) == "upper inner"


def test_prompts_are_worded_unlike_the_reports() -> None:
    prompts = yaml.safe_load(PROMPTS.read_text())["evaluation"]
    assert list(prompts["density"]) == ["A", "B", "C", "D"]
    assert list(prompts["suspicious"]) == ["no", "yes"]
    every = [
        prompt for task in prompts.values() for ensemble in task.values() for prompt in ensemble
    ]
    assert len(every) == len(set(every)) >= 12
    for style in STYLES:
        for template in (template for topic in TEMPLATES[style].values() for template in topic):
            sentence = template.format(side="left", place="upper outer")
            spoken = f" {' '.join(words(sentence))} "
            for prompt in every:
                asked = f" {' '.join(words(prompt))} "
                assert asked not in spoken, (prompt, template)
                assert spoken not in asked, (prompt, template)
                assert not runs(prompt) & runs(sentence), (prompt, template)
