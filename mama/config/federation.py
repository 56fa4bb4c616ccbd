"""Configuration sections `federation`, `participation` and `exchange`: rounds, sites, encodings."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mama.config.base import Fraction, Section, SiteName

Cohort = Annotated[list[SiteName], Field(min_length=1, max_length=10_000)]
Cohorts = Annotated[list[Cohort], Field(min_length=1, max_length=1000)]
Share = Annotated[float, Field(gt=0, le=1e6)]


class FederationConfig(Section):
    """Rounds of a run: their number and length, evaluations and checkpoints."""

    rounds: int = Field(20, ge=1, le=100_000)
    """Number of rounds."""
    local_steps: int = Field(20, ge=1, le=1_000_000)
    """Steps per site and round."""
    evaluate_every: int = Field(
        0, ge=0, description="rounds between evaluations; 0 evaluates after the last round only"
    )
    keep_checkpoints: int = Field(
        2, ge=2, le=1000, description="newest checkpoints to keep, besides the best"
    )


class ParticipationConfig(Section):
    """Sites of a round, its quorum and deadlines; docs/reliability.md covers timing and failures.

    `shares` are the sites' public shares, agreed in advance and never derived from their data; a
    site without an entry has 1. A quorum is a number of sites and a share of the public shares.
    """

    sites_per_round: Literal["all"] | Annotated[float, Field(gt=0, lt=1)] | Cohorts = Field(
        "all",
        description="all sites, a fraction sampled each round, or cohorts (lists of sites) in turn",
    )
    quorum: int = Field(
        1, ge=1, le=10_000, description="sites that must answer for a round to be valid"
    )
    quorum_share: Fraction = Field(
        0.0, description="fraction of the public shares that must answer for a round to be valid"
    )
    shares: dict[SiteName, Share] = Field({}, max_length=10_000)
    """Public shares by site name, which multiply the sites' weights."""
    deadline_s: float = Field(
        3600, gt=0, le=30 * 86400, description="seconds that a site has for one task"
    )
    gone_s: float = Field(
        120,
        ge=10,
        le=30 * 86400,
        description="seconds of silence after which a round with a quorum stops waiting for a site",
    )
    extend: int = Field(
        0, ge=0, le=1000, description="extensions by deadline_s of a round without a quorum"
    )
    late: Literal["drop", "next_round"] = Field(
        "drop",
        description="an update that arrives after its round: drop it, or fold it into a later "
        "round with a smaller weight",
    )
    pause_after: int = Field(
        3,
        ge=0,
        le=100_000,
        description="consecutive failures before a site is paused, then retried every "
        "`pause_after` rounds; 0 disables pausing",
    )
    budget_s: float | None = Field(
        None,
        gt=0,
        le=30 * 86400,
        description="training time in seconds per round, after which a site sends a partial "
        "update; null trains all local_steps",
    )

    @model_validator(mode="after")
    def _cohorts_make_a_quorum(self) -> "ParticipationConfig":
        if isinstance(self.sites_per_round, list):
            smallest = min(len(set(cohort)) for cohort in self.sites_per_round)
            if smallest < self.quorum:
                raise ValueError(
                    f"a cohort has {smallest} sites but the quorum is {self.quorum}; "
                    "lower participation.quorum"
                )
        return self


class ExchangeConfig(Section):
    """Encodings of updates and of the global model.

    All encodings but `fp32` are lossy; the site adds the lost part to its next update (error
    feedback). `up` encodes updates: `int8` is a quarter of float32, `topk` sends the share `keep`
    of each tensor's values that changed most. `down` encodes the global model: `full`, or an exact
    `delta` for a site that still holds the previous one.
    """

    up: Literal["fp32", "bf16", "int8", "topk"] = "fp32"
    """Encoding of updates."""
    keep: float = Field(0.01, gt=0, le=1)
    """Share of each tensor's values that `topk` sends."""
    down: Literal["full", "delta"] = "full"
    """Send the whole global model, or its delta from the previous one."""
