"""Differences between hospitals: the built-in three, more of them, and drawn densities."""

import numpy as np
import pytest

from sim.config import SyntheticHospitals
from sim.synthetic.hospitals import SITES, SiteSpec
from sim.synthetic.skew import site_specs


def specs(seed: int = 0, **values: object) -> tuple[SiteSpec, ...]:
    return site_specs(SyntheticHospitals.model_validate({"source": "synthetic"} | values), seed)


def test_the_default_are_the_three() -> None:
    assert specs() == SITES


def test_more_sites_are_like_the_first_in_turn_under_names_of_their_own() -> None:
    made = specs(sites=5)
    assert [site.name for site in made] == ["alder", "birch", "cedar", "site-4", "site-5"]
    assert made[:3] == SITES
    assert (made[3].vendor, made[3].style, made[3].density) == (
        SITES[0].vendor,
        SITES[0].style,
        SITES[0].density,
    )
    assert specs(sites=2) == SITES[:2]


def test_without_vendor_shift_only_the_equipment_is_the_same() -> None:
    made = specs(vendor_shift=False)
    assert {site.vendor for site in made} == {SITES[0].vendor}
    assert [site.style for site in made] == [site.style for site in SITES]


@pytest.mark.parametrize(
    ("alpha", "low", "high"), [(0.05, 0.8, 1.0), (1.0, 0.4, 0.7), (1e6, 0.25, 0.26)]
)
def test_the_smaller_alpha_the_more_one_density_rules(
    alpha: float, low: float, high: float
) -> None:
    made = specs(sites=60, density_alpha=alpha)
    assert all(sum(site.density) == pytest.approx(1) for site in made)
    assert low < np.mean([max(site.density) for site in made]) < high


def test_densities_follow_the_seed_and_the_site_not_their_number() -> None:
    few, many = specs(3, density_alpha=1), specs(3, sites=9, density_alpha=1)
    assert few == many[:3]
    assert len({site.density for site in many}) == 9
    assert specs(4, density_alpha=1)[0].density != few[0].density
