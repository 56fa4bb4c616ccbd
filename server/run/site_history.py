"""Per-site history that a run keeps from round to round, as part of every checkpoint."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict

# Rounds that give the usual norm: enough to outweigh one odd round, few enough to follow training.
RECENT = 10


class SiteHistory(BaseModel):
    """History of the sites of a run.

    Attributes:
        failures: consecutive rounds without an answer, by site; its keys are all sites ever seen.
        paused: the round since which a site is sampled only occasionally.
        studies: number of studies that a site reported last.
        norms: median norm of the updates of each recent round.
        model_norm: norm of the initial model, used for `norms` in the first round.
        noised: number of means noised under site-level privacy, with repeated rounds.
        ledgers: each site's ledger as reported last. The privacy statement counts `noised` and
            `ledgers` even if the log of the rounds is lost.
    """

    model_config = ConfigDict(extra="forbid")

    failures: dict[str, int] = {}
    paused: dict[str, int] = {}
    studies: dict[str, int] = {}
    norms: list[float] = []
    model_norm: float = 0.0
    noised: int = 0
    ledgers: dict[str, dict[str, Any]] = {}

    def met(self, site: str) -> None:
        """Record a connected site, maybe for the first time."""
        self.failures.setdefault(site, 0)

    def returned(self, site: str) -> None:
        """End the pause of a site that is back."""
        if self.paused.pop(site, None) is not None:
            self.failures[site] = 0

    def answered(self, studies: Mapping[str, int], norms: Iterable[float]) -> None:
        """Record a round's accepted updates."""
        for site in studies:
            self.failures[site] = 0
            self.paused.pop(site, None)
        self.studies |= studies
        # Zero updates, as at a learning rate of 0, do not count towards the usual norm.
        if lengths := [norm for norm in norms if norm > 0]:
            self.norms = [*self.norms, median(lengths)][-RECENT:]

    def failed(self, sites: Iterable[str], number: int, pause_after: int) -> list[str]:
        """Record the sites without an answer in a round; return the newly paused ones."""
        paused = []
        for site in sites:
            self.failures[site] = self.failures.get(site, 0) + 1
            if pause_after and self.failures[site] >= pause_after and site not in self.paused:
                self.paused[site] = number
                paused.append(site)
        return paused

    def skipped(self, number: int, pause_after: int) -> set[str]:
        """Return the paused sites to skip in this round.

        Each is tried every `pause_after` rounds, but at most every second round.
        """
        return {s for s, since in self.paused.items() if (number - since) % max(2, pause_after)}

    @property
    def usual_norm(self) -> float:
        """Usual norm of recent updates; 0 if unknown."""
        return median(self.norms) if self.norms else self.model_norm
