"""A coordinator that looks for patients' pictures and reports in one site's updates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.exchange.codes import ErrorCode
from mama.exchange.update import initial_arrays
from mama.model import build_model
from tests.attacks import pictures

PLANTED = [
    pictures.pictures_by_scaffold,
    pictures.pictures_by_adamw,
    pictures.words_by_adapters,
    pictures.picture_by_trap,
]
Make = Callable[..., Any]


@pytest.fixture
def site_file(site_files: Callable[..., list[Path]]) -> Path:
    return site_files("sites")[0]


@pytest.fixture
def open_site(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Site without rules, nor the one on batches of one patient, which would end these too."""
    monkeypatch.setattr("mama.training.trainer.has_contrast", lambda *_: True)
    pictures.wide_open(site_file)
    return site_file


def test_scaffold_returns_each_patients_picture(open_site: Path, small_config: Make) -> None:
    assert min(pictures.pictures_by_scaffold(open_site, small_config)) > 0.99


@pytest.mark.parametrize("start", [1, 5])
def test_an_undone_step_returns_each_patients_picture(
    open_site: Path, small_config: Make, start: int
) -> None:
    assert min(pictures.pictures_by_adamw(open_site, small_config, start=start)) > 0.99


def test_adapters_return_the_words_of_reports(open_site: Path, small_config: Make) -> None:
    found, wrong = pictures.words_by_adapters(open_site, small_config)
    assert found > 0.95
    assert wrong == 0


def test_a_tiny_clip_norm_returns_the_raw_gradient(open_site: Path, small_config: Make) -> None:
    assert pictures.raw_gradient_by_clipping(open_site, small_config) > 0.99


def test_two_runs_return_a_single_step(
    open_site: Path, small_config: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.training.tasks.stream_of", lambda site, *_: site.site)
    assert pictures.one_step_by_difference(open_site, small_config) < 0.01


def test_a_trap_returns_one_picture_of_a_batch(open_site: Path, small_config: Make) -> None:
    share, _ = pictures.picture_by_trap(open_site, small_config)
    assert share > 0.99


@pytest.mark.parametrize("attack", [*PLANTED, pictures.raw_gradient_by_clipping])
@pytest.mark.parametrize(
    ("rule", "code"),
    [
        ("min_patients_step", ErrorCode.POLICY_PATIENTS),
        ("min_patients_update", ErrorCode.POLICY_PATIENTS),
        ("allow", ErrorCode.POLICY_BOUNDS),
    ],
)
def test_each_rule_alone_refuses(
    site_file: Path,
    small_config: Make,
    attack: Callable[..., Any],
    rule: str,
    code: ErrorCode,
) -> None:
    rest = {key: value for key, value in pictures.OPEN.items() if key != rule}
    if attack in (pictures.picture_by_trap, pictures.raw_gradient_by_clipping):
        rest |= {"min_patients_step": 9} if rule == "min_patients_step" else {}
    pictures.defend(site_file, **rest)
    with pytest.raises(pictures.RefusedError) as refused:
        attack(site_file, small_config)
    assert refused.value.code == code


@pytest.mark.parametrize("attack", PLANTED)
def test_planted_weights_are_refused_whatever_else_is_allowed(
    site_file: Path, small_config: Make, attack: Callable[..., Any]
) -> None:
    rest = {key: value for key, value in pictures.OPEN.items() if key != "max_model_step"}
    pictures.defend(site_file, **rest)
    with pytest.raises(pictures.RefusedError) as refused:
        attack(site_file, small_config)
    assert refused.value.code == ErrorCode.MODEL_STEP


def test_planted_weights_are_refused_where_a_run_begins_late(
    site_file: Path, small_config: Make
) -> None:
    rest = {key: value for key, value in pictures.OPEN.items() if key != "max_model_step"}
    pictures.defend(site_file, **rest)
    with pytest.raises(pictures.RefusedError) as refused:
        pictures.pictures_by_adamw(site_file, small_config, start=500)
    assert refused.value.code == ErrorCode.MODEL_STEP


@pytest.mark.parametrize("steps", [1, 5, 15])
def test_planted_tensors_do_not_hide_behind_an_honest_round(
    site_file: Path, small_config: Make, steps: int
) -> None:
    """At the largest allowed rate, the whole model soon lies within ten of its updates."""
    rest = {key: value for key, value in pictures.OPEN.items() if key != "max_model_step"}
    pictures.defend(site_file, **rest)
    experiment = pictures.trap_experiment(small_config, 8, steps, clip=1.0)
    own = initial_arrays(build_model(experiment), experiment.strategy)
    update = pictures.ask(site_file, experiment, own, "late", 1)
    trapped = pictures.planted(experiment) | pictures.trap(experiment, own, 0.0)
    far = pictures.norm([trapped[n] - own[n] for n in own]) / pictures.norm(list(update.values()))
    assert (far < 10) == (steps > 1)
    with pytest.raises(pictures.RefusedError) as refused:
        pictures.ask(site_file, experiment, trapped, "late", 2)
    assert refused.value.code == ErrorCode.MODEL_STEP
