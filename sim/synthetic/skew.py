"""Differences between the synthetic hospitals."""

from dataclasses import replace

import numpy as np

from sim.config import SyntheticHospitals
from sim.synthetic.hospitals import DENSITIES, SITES, SiteSpec


def site_specs(simulation: SyntheticHospitals, seed: int) -> tuple[SiteSpec, ...]:
    """Return the hospitals of a simulation: the three of `SITES`, then more like these in turn.

    With `density_alpha` each site's density shares are drawn from Dirichlet(alpha, ..., alpha),
    with equal numbers of studies: Hsu, Qi, Brown, "Measuring the Effects of Non-Identical Data
    Distribution for Federated Visual Classification", 2019.
    """
    return tuple(_spec(number, simulation, seed) for number in range(simulation.sites))


def _spec(number: int, simulation: SyntheticHospitals, seed: int) -> SiteSpec:
    spec = SITES[number % len(SITES)]
    if number >= len(SITES):
        spec = replace(spec, name=f"site-{number + 1}")
    if not simulation.vendor_shift:
        spec = replace(spec, vendor=SITES[0].vendor)
    if simulation.density_alpha is not None:
        random = np.random.default_rng((seed, number, len(DENSITIES)))
        a, b, c, d = random.dirichlet([simulation.density_alpha] * len(DENSITIES)).tolist()
        spec = replace(spec, density=(a, b, c, d))
    return spec
