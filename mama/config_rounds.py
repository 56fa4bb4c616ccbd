"""How rounds go: which sites are asked, how long they are waited for, and when their answers count."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mama.section import Fraction, Section, SiteName

Cohort = Annotated[list[SiteName], Field(min_length=1, max_length=10_000)]
Cohorts = Annotated[list[Cohort], Field(min_length=1, max_length=1000)]
Share = Annotated[float, Field(gt=0, le=1e6)]


class RoundsConfig(Section):
    """The part of `federation` that the round loop reads. docs/reliability.md tells what happens when.

    `shares` are the sites' public shares, agreed beforehand and never derived from their data; a site without
    one has 1. A quorum is of sites and of shares.
    """

    rounds: int = Field(20, ge=1, le=100_000)
    local_steps: int = Field(20, ge=1, le=1_000_000)
    sites_per_round: Literal["all"] | Annotated[float, Field(gt=0, lt=1)] | Cohorts = Field(
        "all",
        description="all sites, a fraction drawn anew each round, or cohorts (lists of sites) that take turns",
    )
    quorum: int = Field(
        1, ge=1, le=10_000, description="sites that must answer for a round to count"
    )
    quorum_share: Fraction = Field(
        0.0, description="share of the public shares that must answer for a round to count"
    )
    shares: dict[SiteName, Share] = Field({}, max_length=10_000)
    deadline_s: float = Field(
        3600, gt=0, le=30 * 86400, description="seconds a site has for one task"
    )
    extend: int = Field(
        0, ge=0, le=1000, description="times a round without a quorum gets another deadline_s"
    )
    late: Literal["drop", "next_round"] = Field(
        "drop",
        description="an update after its round's end: drop it, or fold it with a smaller weight into a later round",
    )
    pause_after: int = Field(
        3,
        ge=0,
        le=100_000,
        description="rounds in a row that a site fails before it is asked only every so many rounds; 0 = never",
    )
    norm_limit: float = Field(
        100.0,
        gt=1,
        le=1e12,
        description="an update longer than so many times the usual one is refused",
    )
    keep_checkpoints: int = Field(2, ge=2, le=1000, description="newest kept, beside the best")
    evaluate_every: int = Field(
        0, ge=0, description="rounds between evaluations; 0 = only the last"
    )

    @model_validator(mode="after")
    def _cohorts_make_a_quorum(self) -> "RoundsConfig":
        if isinstance(self.sites_per_round, list):
            smallest = min(len(set(cohort)) for cohort in self.sites_per_round)
            if smallest < self.quorum:
                raise ValueError(
                    f"a cohort has {smallest} sites but the quorum is {self.quorum}; lower federation.quorum"
                )
        return self
