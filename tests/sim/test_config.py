"""What a simulation's file refuses, because it knows how many sites there are."""

from collections.abc import Callable
from typing import Any

import pytest

from mama.errors import ConfigError


@pytest.mark.parametrize(
    ("sites", "threshold", "told"),
    [
        (4, 2, "must be above half of the 4 sites"),
        (3, 4, "not above all"),
        (2, 2, "hide in a sum of 3 at least"),
    ],
)
def test_masks_that_no_site_would_take_off_are_refused(
    small_config: Callable[..., Any], sites: int, threshold: int, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        small_config(
            f"simulation.sites={sites}",
            f"privacy.secure={{threshold: {threshold}}}",
            "federation.quorum=4",
        )


def test_a_delta_that_would_let_a_whole_patient_out_is_refused(
    small_config: Callable[..., Any],
) -> None:
    private = "privacy={{mode: patient, slots: 64, delta: {delta}}}"
    with pytest.raises(ConfigError, match="delta must be below 1 / "):
        small_config(private.format(delta=0.02))
    assert small_config(private.format(delta=0.01)).privacy.delta == 0.01


def test_those_that_sites_take_off_are_not(small_config: Callable[..., Any]) -> None:
    assert small_config("privacy.secure={threshold: 2}", "federation.quorum=2").privacy.secure
