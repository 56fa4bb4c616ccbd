"""Rejections in a simulation file that depend on the number of sites."""

from collections.abc import Callable
from typing import Any

import pytest

from mama.errors import ConfigError


@pytest.mark.parametrize(
    ("sites", "threshold", "message"),
    [
        (4, 2, "must be more than half of the 4 sites"),
        (3, 4, "at most all of them"),
        (2, 2, "require a sum of at least 3"),
    ],
)
def test_masks_that_no_site_would_take_off_are_refused(
    small_config: Callable[..., Any], sites: int, threshold: int, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        small_config(
            f"simulation.sites={sites}",
            f"privacy.secure={{threshold: {threshold}}}",
            "participation.quorum=4",
        )


def test_a_delta_that_would_let_a_whole_patient_out_is_refused(
    small_config: Callable[..., Any],
) -> None:
    private = "privacy={{mode: patient, slots: 64, delta: {delta}}}"
    with pytest.raises(ConfigError, match="delta must be below 1 / "):
        small_config(private.format(delta=0.02))
    assert small_config(private.format(delta=0.01)).privacy.delta == 0.01


def test_those_that_sites_take_off_are_not(small_config: Callable[..., Any]) -> None:
    assert small_config("privacy.secure={threshold: 2}", "participation.quorum=2").privacy.secure
