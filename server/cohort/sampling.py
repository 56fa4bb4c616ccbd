"""Sampling of a round's sites.

A repeated round samples the same sites if the same sites are known, connected and paused.
"""

import math
from collections.abc import Collection

from mama.config.federation import ParticipationConfig
from mama.system.seeds import numpy_generator


def enrolled(config: ParticipationConfig) -> set[str]:
    """Return the sites that the experiment names."""
    cohorts = config.sites_per_round if isinstance(config.sites_per_round, list) else []
    return set(config.shares).union(*cohorts)


def sample_sites(
    config: ParticipationConfig,
    seed: int,
    number: int,
    known: Collection[str],
    paused: Collection[str],
    connected: Collection[str],
) -> tuple[list[str], list[str]]:
    """Return the sites to train in a round, and the sites that its quorum is counted over.

    A fraction is drawn from the connected sites if they are a quorum; disconnected and paused ones
    are expected all the same. `all` and cohorts include disconnected sites, which may reconnect.
    Paused sites are included only if the others are no quorum.

    Args:
        config: with the quorum and `sites_per_round`.
        seed: of the experiment.
        number: of the round.
        known: all sites of the run.
        paused: known sites that are paused in this round.
        connected: connected sites.
    """
    plan = config.sites_per_round
    expected = sorted(known)
    if isinstance(plan, list):
        expected = sorted(set(plan[(number - 1) % len(plan)]))
    active = [site for site in expected if site not in paused]
    if len(active) < config.quorum:
        active = expected
    if not isinstance(plan, float):
        return active, expected
    ready = [site for site in active if site in connected]
    if len(ready) < config.quorum:
        ready = active
    count = min(len(ready), max(config.quorum, math.ceil(plan * len(ready))))
    places = numpy_generator(seed, "sites", number).choice(len(ready), count, replace=False)
    drawn = [ready[place] for place in sorted(places)]
    return drawn, sorted({*drawn, *(site for site in expected if site not in ready)})
