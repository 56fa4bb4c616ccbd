"""Configuration section `strategy`: local training, weights and aggregation of updates."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from mama.config.base import Section, Weight
from mama.config.federation import FederationConfig, ParticipationConfig

Weights = Literal["studies", "patients", "steps", "uniform"]

Decay = Annotated[float, Field(ge=0, lt=1)]
# fnmatch wildcards and the characters of tensor names; bounded, as sites parse hostile input.
NamePattern = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.*?\[\]!-]+$")
]


class SimpleAggregatorConfig(Section):
    """Weighted `mean` (McMahan et al. 2017) or coordinate-wise `median` (Yin et al. 2018).

    The median ignores weights, which a bad site could claim.
    """

    kind: Literal["mean", "median"]
    """Aggregation rule: the weighted mean or the median of each coordinate."""

    @property
    def minimum_sites(self) -> int:
        """Fewest updates for a result, which in robust rules must withstand one bad site."""
        return 1 if self.kind == "mean" else 3

    @property
    def weighted(self) -> bool:
        """True if `strategy.weights` has an effect."""
        return self.kind == "mean"


class TrimmedMeanConfig(Section):
    """Coordinate-wise mean without the largest and smallest share `trim` (Yin et al. 2018)."""

    kind: Literal["trimmed_mean"]
    """Aggregation rule: the mean without the extreme values of each coordinate."""
    trim: float = Field(0.2, ge=0.01, lt=0.5)
    """Share of the sites' values that is dropped at each end."""

    def trimmed(self, sites: int) -> int:
        """Return the number of values dropped at each end: `trim` of the sites, rounded down."""
        return math.floor(self.trim * sites + 1e-9)  # 0.29 x 100 is slightly below 29

    @property
    def minimum_sites(self) -> int:
        """Fewest updates of which at least one is trimmed at each end."""
        return next(sites for sites in range(3, 101) if self.trimmed(sites))

    @property
    def weighted(self) -> bool:
        """True if `strategy.weights` has an effect."""
        return False


class SgdConfig(Section):
    """SGD server optimiser: FedAvg with lr 1 and no momentum, FedAvgM with momentum.

    FedAvg: McMahan et al. 2017. FedAvgM: Hsu et al. 2019.
    """

    kind: Literal["sgd"]
    """Server optimiser: a plain SGD step."""
    lr: float = Field(1.0, gt=0, le=10)
    """Server learning rate; 1 adopts the mean update unchanged."""
    momentum: Decay = 0.0
    """Server momentum."""


class AdamConfig(Section):
    """FedAdam and FedYogi server optimisers (Reddi et al. 2021, algorithm 2).

    `betas` are the paper's; `eps` is its tau, the degree of adaptivity. `lr` is the step size per
    round of every weight whose changes are far above `eps`, so it needs tuning.
    """

    kind: Literal["adam", "yogi"]
    """Server optimiser: an adaptive step."""
    lr: float = Field(0.01, gt=0, le=10)
    """Server learning rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """Decay rates of the first and second moment."""
    eps: float = Field(1e-3, gt=0, le=1)
    """Constant added to the denominator."""


class AdagradConfig(Section):
    """FedAdagrad server optimiser (Reddi et al. 2021, algorithm 2); `eps` is its tau."""

    kind: Literal["adagrad"]
    """Server optimiser: an adaptive step with a decreasing rate."""
    lr: float = Field(0.1, gt=0, le=10)
    """Server learning rate."""
    eps: float = Field(1e-3, gt=0, le=1)
    """Constant added to the denominator."""


class FreezeConfig(Section):
    """Tensors matching `pattern` are neither trained nor sent before round `until_round`."""

    pattern: NamePattern
    """Tensor name, or fnmatch pattern of names."""
    until_round: int = Field(ge=2, le=100_000)
    """First round in which the tensors are trained."""


def _of_kind(kind: str) -> BeforeValidator:
    """Return a validator that adds the default `kind` to a section without one."""

    def add(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(add)


AggregatorConfig = Annotated[
    SimpleAggregatorConfig | TrimmedMeanConfig,
    Field(discriminator="kind"),
    _of_kind("mean"),
]
ServerOptimiserConfig = Annotated[
    SgdConfig | AdamConfig | AdagradConfig, Field(discriminator="kind"), _of_kind("sgd")
]


class StrategyConfig(Section):
    """Local training at the sites, and aggregation of their updates into the next model.

    `weights` is the weight of an update, as claimed by its site. `fairness` is q of q-FFL (Li et
    al. 2020): the weight is multiplied by the site's loss to the power q, so that sites with a
    large loss count more.

    `local` lists patterns (fnmatch) of tensors that stay at each site: "*norm*" for FedBN (Li et
    al. 2021), a head for FedPer (Arivazhagan et al. 2019). In the coordinator's model they keep
    their initial values. `freeze` delays the training of tensors; a pattern without a matching
    trained tensor is rejected.
    """

    weights: Weights = Field(
        "uniform",
        description="weight of an update; all but uniform rely on numbers that each site claims",
    )
    fairness: float = Field(0.0, ge=0, le=5)
    """Exponent q of q-FFL; above 0, sites with a larger loss count more."""
    norm_limit: float = Field(
        10.0,
        gt=1,
        le=1e12,
        description="factor over the typical update norm above which an update is rejected",
    )
    aggregator: AggregatorConfig = SimpleAggregatorConfig(kind="mean")
    """Rule that combines the updates."""
    server_optimiser: ServerOptimiserConfig = SgdConfig(kind="sgd")
    """Server optimiser that applies the combined update."""
    prox: Weight = Field(
        0.0, description="mu of FedProx: pull towards the round's global model (Li et al. 2020)"
    )
    guidance: Weight = Field(
        0.0,
        description="pull of each study's embeddings towards those of the round's global model "
        "(Shuai and Shen 2024)",
    )
    scaffold: bool = Field(
        False,
        description="SCAFFOLD control variates against client drift (Karimireddy et al. 2020); "
        "doubles the traffic",
    )
    local: list[NamePattern] = Field([], max_length=64)
    """Names or patterns of tensors that stay at the sites."""
    freeze: list[FreezeConfig] = Field([], max_length=64)
    """Tensors whose training starts in a later round."""

    @model_validator(mode="after")
    def _aggregator_can_do_its_work(self) -> "StrategyConfig":
        kind = self.aggregator.kind
        if not self.aggregator.weighted and (self.weights != "uniform" or self.fairness):
            raise ValueError(
                f"aggregator {kind} takes no weights, which a bad site could choose; "
                "set strategy.weights to uniform and strategy.fairness to 0"
            )
        if self.scaffold and kind != "mean":
            raise ValueError(
                "strategy.scaffold requires aggregator mean: a bad site could send any control "
                "variate"
            )
        return self


def conflicts(
    strategy: StrategyConfig, participation: ParticipationConfig, federation: FederationConfig
) -> list[str]:
    """Return why a strategy does not fit the run's sites and rounds; empty if it does."""
    kind, minimum = strategy.aggregator.kind, strategy.aggregator.minimum_sites
    found = [
        f"freeze {frozen.pattern!r} ends after the last round; lower until_round, or freeze blocks "
        "of the tower"
        for frozen in strategy.freeze
        if frozen.until_round > federation.rounds
    ]
    if participation.quorum < minimum:
        found.append(
            f"aggregator {kind} needs at least {minimum} updates; "
            f"set participation.quorum to {minimum} or more"
        )
    if participation.late != "drop" and kind != "mean":
        found.append(
            f"aggregator {kind} gives each site one vote, and a late update would be a second; "
            "set participation.late drop"
        )
    return found
