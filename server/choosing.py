"""Which sites a round asks: it follows from seed, round and who is there, so that a repeated round asks the same."""

import math
from collections.abc import Collection

from mama.config_federation import FederationConfig
from mama.seeds import numpy_generator


def enrolled(config: FederationConfig) -> set[str]:
    """The sites that the experiment names."""
    cohorts = config.sites_per_round if isinstance(config.sites_per_round, list) else []
    return set(config.shares).union(*cohorts)


def choose(
    config: FederationConfig,
    seed: int,
    number: int,
    known: Collection[str],
    resting: Collection[str],
    here: Collection[str],
) -> tuple[list[str], list[str]]:
    """The sites that round `number` asks, and those that it is meant to hear, of which a quorum is a part.

    A fraction is drawn from the sites that are there, if they are a quorum; those that are away or paused are missing
    all the same. All and cohorts also ask those that are away, which may come back. Paused sites are asked when the
    others alone are no quorum.

    Args:
        known: all sites of the run.
        resting: those of them that are paused in this round.
        here: those that are connected.
    """
    plan = config.sites_per_round
    meant = sorted(known)
    if isinstance(plan, list):
        meant = sorted(set(plan[(number - 1) % len(plan)]))
    awake = [site for site in meant if site not in resting]
    if len(awake) < config.quorum:
        awake = meant
    if not isinstance(plan, float):
        return awake, meant
    ready = [site for site in awake if site in here]
    if len(ready) < config.quorum:
        ready = awake
    count = min(len(ready), max(config.quorum, math.ceil(plan * len(ready))))
    places = numpy_generator(seed, "sites", number).choice(len(ready), count, replace=False)
    drawn = [ready[place] for place in sorted(places)]
    return drawn, sorted({*drawn, *(site for site in meant if site not in ready)})
