"""Who belongs to a run, and with which public share: the federation's roster tells, and the experiment."""

from collections.abc import Collection
from pathlib import Path

from mama.config_federation import FederationConfig
from mama.exchange.roster import Roster
from server.choosing import enrolled


class Members:
    """The sites of a run. The roster's file is read anew each time, for sites are enrolled and revoked meanwhile.

    Args:
        roster: the coordinator's own file; None in a simulation without one.
    """

    def __init__(self, config: FederationConfig, roster: Path | None):
        self._config, self._roster = config, roster

    def sites(self, seen: Collection[str]) -> set[str]:
        """All of them, also those that never connected; without a roster those that were `seen`."""
        named = enrolled(self._config)
        return named.union(seen if self._roster is None else self._active())

    def shares(self) -> dict[str, float]:
        """Public shares by site; what the experiment says goes before the roster."""
        return {**self._active(), **self._config.shares}

    def _active(self) -> dict[str, float]:
        if self._roster is None:
            return {}
        return {
            member.site: member.share
            for member in Roster.own(self._roster.read_text(encoding="utf-8")).active
        }
