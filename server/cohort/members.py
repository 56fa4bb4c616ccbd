"""Membership of a run: its sites and their public shares, by roster and experiment."""

from collections.abc import Collection
from pathlib import Path

from mama.config.federation import ParticipationConfig
from mama.exchange.roster import Roster
from server.cohort.sampling import enrolled


class Members:
    """Sites of a run.

    The roster file is read at each call, because sites are enrolled and revoked during a run.

    Args:
        roster: the coordinator's own file; None in a simulation without one.
    """

    def __init__(self, config: ParticipationConfig, roster: Path | None):
        self._config, self._roster = config, roster

    def sites(self, seen: Collection[str]) -> set[str]:
        """Return all sites, also those that never connected; without a roster, those in `seen`."""
        named = enrolled(self._config)
        return named.union(seen if self._roster is None else self._active())

    def shares(self) -> dict[str, float]:
        """Return public shares by site; the experiment takes precedence over the roster."""
        return {**self._active(), **self._config.shares}

    def _active(self) -> dict[str, float]:
        if self._roster is None:
            return {}
        return {
            member.site: member.share
            for member in Roster.own(self._roster.read_text(encoding="utf-8")).active
        }
