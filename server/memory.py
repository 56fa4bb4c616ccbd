"""What a run remembers of its sites from round to round. It is part of every checkpoint."""

from collections.abc import Iterable, Mapping
from statistics import median
from typing import Any

from pydantic import BaseModel, ConfigDict

# Rounds whose norms tell what is usual: enough to see past one odd round, few enough to follow training.
RECENT = 10


class Memory(BaseModel):
    """All sites ever seen are keys of `failures`: the rounds in a row that a site was asked in vain.

    `paused`: the round since which a site is asked only now and then. `studies`: what a site last said that it has.
    `norms`: the median length of the updates of each recent round. `model_norm`: that of the initial model, which
    stands in for them in the first round. `noised`: how often a mean was noised under site-level privacy, repeated
    rounds among them. `ledgers`: what each site's ledger said last. The privacy statement counts both, though the log
    of the rounds be lost.
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
        """A site is there, maybe for the first time."""
        self.failures.setdefault(site, 0)

    def returned(self, site: str) -> None:
        """A site is back; its pause is over."""
        if self.paused.pop(site, None) is not None:
            self.failures[site] = 0

    def answered(self, studies: Mapping[str, int], norms: Iterable[float]) -> None:
        """A round's accepted updates."""
        for site in studies:
            self.failures[site] = 0
            self.paused.pop(site, None)
        self.studies |= studies
        # Updates of nothing, as at a learning rate of 0, say nothing of what is usual.
        if lengths := [norm for norm in norms if norm > 0]:
            self.norms = [*self.norms, median(lengths)][-RECENT:]

    def failed(self, sites: Iterable[str], number: int, pause_after: int) -> list[str]:
        """Sites that were asked in vain in a round; returns those that are paused from now on."""
        paused = []
        for site in sites:
            self.failures[site] = self.failures.get(site, 0) + 1
            if pause_after and self.failures[site] >= pause_after and site not in self.paused:
                self.paused[site] = number
                paused.append(site)
        return paused

    def resting(self, number: int, pause_after: int) -> set[str]:
        """Paused sites that are not asked in this round: every `pause_after` rounds, or every second, they are."""
        return {s for s, since in self.paused.items() if (number - since) % max(2, pause_after)}

    @property
    def usual_norm(self) -> float:
        """The length that updates have had lately; 0 if nothing can be said."""
        return median(self.norms) if self.norms else self.model_norm
