"""A coordinator that looks for patients' pictures and reports in one site's updates."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.exchange.codes import ErrorCode
from tests.attacks import pictures

DEFENDED = pytest.mark.xfail(
    strict=True, reason="the policy does not yet refuse by patients, bounds and model steps"
)
CODES = {ErrorCode.POLICY_PATIENTS, ErrorCode.POLICY_BOUNDS, ErrorCode.MODEL_STEP}
Make = Callable[..., Any]


@pytest.fixture
def site_file(site_files: Callable[..., list[Path]]) -> Path:
    return site_files("sites")[0]


@pytest.fixture
def open_site(site_file: Path) -> Path:
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


def test_two_runs_return_a_single_step(open_site: Path, small_config: Make) -> None:
    assert pictures.one_step_by_difference(open_site, small_config) < 0.01


def test_a_trap_returns_one_picture_of_a_batch(open_site: Path, small_config: Make) -> None:
    share, _ = pictures.picture_by_trap(open_site, small_config)
    assert share > 0.99


@DEFENDED
@pytest.mark.parametrize(
    "attack",
    [
        pictures.pictures_by_scaffold,
        pictures.pictures_by_adamw,
        pictures.words_by_adapters,
        pictures.raw_gradient_by_clipping,
        pictures.one_step_by_difference,
        pictures.picture_by_trap,
    ],
)
def test_the_default_policy_refuses(
    site_file: Path, small_config: Make, attack: Callable[..., Any]
) -> None:
    with pytest.raises(pictures.RefusedAttack) as refused:
        attack(site_file, small_config)
    assert refused.value.code in CODES
