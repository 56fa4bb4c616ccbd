"""The `federation` section: how rounds go, how updates travel, and how they become the next global model."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mama.config_aggregation import (
    AggregatorConfig,
    FreezeConfig,
    NamePattern,
    ServerOptimiserConfig,
    SgdConfig,
    SimpleAggregatorConfig,
)
from mama.section import Fraction, Section, SiteName, Weight

Cohort = Annotated[list[SiteName], Field(min_length=1, max_length=10_000)]
Cohorts = Annotated[list[Cohort], Field(min_length=1, max_length=1000)]
Weights = Literal["studies", "patients", "steps", "uniform"]
Share = Annotated[float, Field(gt=0, le=1e6)]


class ExchangeConfig(Section):
    """How weights travel. All but `fp32` lose something of an update, which the site adds to its next one.

    `up`, the updates: `int8` is a quarter of float32, `topk` the share `keep` of each tensor's values that changed
    most. `down`, the global model: `full`, or as an exact `delta` to a site that still holds the one before.
    """

    up: Literal["fp32", "bf16", "int8", "topk"] = "fp32"
    """Coding of updates."""
    keep: float = Field(0.01, gt=0, le=1)
    """Share of values that topk sends."""
    down: Literal["full", "delta"] = "full"
    """Send whole models, or the change from the last."""


class FederationConfig(Section):
    """Rounds, and how their updates become the next global model. docs/reliability.md tells what happens when.

    `shares` are the sites' public shares, agreed beforehand and never derived from their data; a site without
    one has 1. A quorum is of sites and of shares.

    `weights` is what an update counts by, as its site says. `fairness` is the q of q-FFL (Li et al. 2020): the
    weight is multiplied by the site's loss to the power q, so that sites that are served badly count more.

    `local` are patterns (fnmatch) of tensors that stay at each site, which keeps its own: "*norm*" for FedBN (Li et al.
    2021), a head for FedPer (Arivazhagan et al. 2019). In the coordinator's model they keep their initial values.
    `freeze` holds tensors back for the first rounds; a pattern that names no trained tensor is refused.
    """

    rounds: int = Field(20, ge=1, le=100_000)
    """Number of rounds."""
    local_steps: int = Field(20, ge=1, le=1_000_000)
    """Steps of a site in a round."""
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
    """Factors of sites' weights by name."""
    deadline_s: float = Field(
        3600, gt=0, le=30 * 86400, description="seconds a site has for one task"
    )
    gone_s: float = Field(
        120,
        ge=10,
        le=30 * 86400,
        description="seconds of silence after which a site is not waited for where the others are a quorum",
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
        10.0,
        gt=1,
        le=1e12,
        description="an update longer than so many times the usual one is refused",
    )
    keep_checkpoints: int = Field(2, ge=2, le=1000, description="newest kept, beside the best")
    evaluate_every: int = Field(
        0, ge=0, description="rounds between evaluations; 0 = only the last"
    )
    prox: Weight = Field(
        0.0, description="FedProx's mu: pull towards the round's global model (Li et al. 2020)"
    )
    guidance: Weight = Field(
        0.0,
        description="pull of each study's embeddings towards the round's global model's (Shuai and Shen 2024)",
    )
    scaffold: bool = Field(
        False,
        description="control variates against drift (Karimireddy et al. 2020), which double what travels",
    )
    budget_s: float | None = Field(
        None,
        gt=0,
        le=30 * 86400,
        description="seconds of training a round after which a site sends what it has; null = local_steps in full",
    )
    weights: Weights = Field(
        "uniform",
        description="what an update counts by; all but uniform is each site's own claim",
    )
    fairness: float = Field(0.0, ge=0, le=5)
    """Above 0, sites with a larger loss count more (q-FFL)."""
    aggregator: AggregatorConfig = SimpleAggregatorConfig(kind="mean")
    """How updates are combined."""
    server_optimiser: ServerOptimiserConfig = SgdConfig(kind="sgd")
    """The step made of the combined update."""
    local: list[NamePattern] = Field([], max_length=64)
    """Names or patterns of tensors that stay at the sites."""
    freeze: list[FreezeConfig] = Field([], max_length=64)
    """Tensors that join later."""
    exchange: ExchangeConfig = ExchangeConfig()
    """The coding of what travels."""

    @model_validator(mode="after")
    def _cohorts_make_a_quorum(self) -> "FederationConfig":
        if isinstance(self.sites_per_round, list):
            smallest = min(len(set(cohort)) for cohort in self.sites_per_round)
            if smallest < self.quorum:
                raise ValueError(
                    f"a cohort has {smallest} sites but the quorum is {self.quorum}; lower federation.quorum"
                )
        return self

    @model_validator(mode="after")
    def _aggregator_can_do_its_work(self) -> "FederationConfig":
        kind, minimum = self.aggregator.kind, self.aggregator.minimum_sites
        if self.quorum < minimum:
            raise ValueError(
                f"aggregator {kind} needs at least {minimum} updates; set federation.quorum to {minimum} or more"
            )
        if not self.aggregator.weighted and (self.weights != "uniform" or self.fairness):
            raise ValueError(
                f"aggregator {kind} takes no weights, which a bad site would choose; "
                "set federation.weights to uniform and federation.fairness to 0"
            )
        if self.late != "drop" and kind != "mean":
            raise ValueError(
                f"aggregator {kind} gives each update one vote, and a late one would be its site's second; "
                "set federation.late drop"
            )
        if self.scaffold and kind != "mean":
            raise ValueError(
                "federation.scaffold goes with aggregator mean: a bad site could send any control variate"
            )
        return self

    @model_validator(mode="after")
    def _everything_thaws(self) -> "FederationConfig":
        for frozen in self.freeze:
            if frozen.until_round > self.rounds:
                raise ValueError(
                    f"freeze {frozen.pattern!r} ends after the last round; let it end, or freeze the tower's blocks"
                )
        return self
