"""Quorum of a round by number of sites and public shares, never by private counts."""

from collections.abc import Collection, Iterable, Mapping

from mama.config.federation import ParticipationConfig
from mama.system.formats import percent


class Quorum:
    """Quorum of a round, by `participation.quorum` and `participation.quorum_share`.

    Args:
        config: with both thresholds.
        shares: public shares by site (server/cohort/members.py); a site without one has 1.
    """

    def __init__(self, config: ParticipationConfig, shares: Mapping[str, float]):
        self._number, self._share = config.quorum, config.quorum_share
        self._shares = shares

    def share(self, sites: Iterable[str], among: Iterable[str]) -> float:
        """Return the public share of `sites` as a fraction of that of their superset `among`."""
        total = sum(self._shares.get(site, 1.0) for site in among)
        return sum(self._shares.get(site, 1.0) for site in sites) / total if total else 0.0

    def holds(self, sites: Collection[str], among: Iterable[str]) -> bool:
        """Return whether the answers of `sites` are enough."""
        # A little less, so that no rounding of a sum decides.
        return len(sites) >= self._number and self.share(sites, among) >= self._share - 1e-9

    def shortfall(self, sites: Collection[str], among: Collection[str]) -> str:
        """Return the lack of a quorum as a sentence."""
        if len(sites) < self._number:
            return f"{len(sites)} of at least {self._number} sites answered"
        return (
            f"sites with {percent(self.share(sites, among))} of the public share answered, "
            f"at least {percent(self._share)} must"
        )
