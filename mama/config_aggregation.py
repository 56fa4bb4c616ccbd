"""How updates become the next global model: the part of `federation` that the server's aggregation reads."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from mama.section import Section

Decay = Annotated[float, Field(ge=0, lt=1)]
# fnmatch's wildcards and the characters of tensors' names; bounded, for sites read it as hostile input.
NamePattern = Annotated[
    str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.*?\[\]!-]+$")
]


class SimpleAggregatorConfig(Section):
    """The weighted `mean` (McMahan et al. 2017), the coordinate-wise `median` (Yin et al. 2018), or the
    `geometric_median` (Pillutla et al. 2022), which a site can move by the weight that it claims."""

    kind: Literal["mean", "median", "geometric_median"]
    """Weighted mean, or a robust rule that ignores weights."""

    @property
    def minimum_sites(self) -> int:
        """With fewer updates there is no result, or none that withstands one bad site."""
        return 1 if self.kind == "mean" else 3

    @property
    def weighted(self) -> bool:
        """Whether `federation.weights` has a meaning."""
        return self.kind != "median"


class TrimmedMeanConfig(Section):
    """The coordinate-wise mean without the largest and the smallest share `trim` (Yin et al. 2018)."""

    kind: Literal["trimmed_mean"]
    """Mean without the extreme values of each coordinate."""
    trim: float = Field(0.2, ge=0.01, lt=0.5)
    """Share left out at either end."""

    def trimmed(self, sites: int) -> int:
        """How many values fall away at each end: `trim` of the sites, rounded down."""
        return math.floor(self.trim * sites + 1e-9)  # 0.29 x 100 is a little below 29

    @property
    def minimum_sites(self) -> int:
        """With fewer updates nothing is trimmed."""
        return next(sites for sites in range(3, 101) if self.trimmed(sites))

    @property
    def weighted(self) -> bool:
        """Whether `federation.weights` has a meaning."""
        return False


class KrumConfig(Section):
    """Krum and multi-Krum (Blanchard et al. 2017), which withstand up to `byzantine` bad sites."""

    kind: Literal["krum", "multi_krum"]
    """The update, or the mean of those, nearest to its neighbours."""
    byzantine: int = Field(1, ge=1, le=1000)
    """Number of lying sites that it withstands."""

    @property
    def minimum_sites(self) -> int:
        """The paper's n >= 2f + 3."""
        return 2 * self.byzantine + 3

    @property
    def weighted(self) -> bool:
        """Whether `federation.weights` has a meaning."""
        return False


class SgdConfig(Section):
    """With lr 1 and no momentum FedAvg (McMahan et al. 2017), with momentum FedAvgM (Hsu et al. 2019)."""

    kind: Literal["sgd"]
    """A plain step."""
    lr: float = Field(1.0, gt=0, le=10)
    """The server's learning rate; 1 takes the mean as it is."""
    momentum: Decay = 0.0
    """The server's momentum."""


class AdamConfig(Section):
    """FedAdam and FedYogi (Reddi et al. 2021, algorithm 2), with its betas; `eps` is its tau, the degree of adaptivity.

    `lr` is the size of one round's step in every weight whose changes are far above eps: tune it.
    """

    kind: Literal["adam", "yogi"]
    """An adaptive step."""
    lr: float = Field(0.01, gt=0, le=10)
    """The server's learning rate."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """Decay of the two moments."""
    eps: float = Field(1e-3, gt=0, le=1)
    """Added to the denominator."""


class AdagradConfig(Section):
    """FedAdagrad (Reddi et al. 2021, algorithm 2); `eps` is its tau."""

    kind: Literal["adagrad"]
    """An adaptive step whose rate only falls."""
    lr: float = Field(0.1, gt=0, le=10)
    """The server's learning rate."""
    eps: float = Field(1e-3, gt=0, le=1)
    """Added to the denominator."""


class FreezeConfig(Section):
    """Tensors that match `pattern` are neither trained nor sent before round `until_round`, counted from 1."""

    pattern: NamePattern
    """Name or pattern of tensors."""
    until_round: int = Field(ge=2, le=100_000)
    """The first round in which they are trained."""


def _of_kind(kind: str) -> BeforeValidator:
    """What a section without `kind` is."""

    def add(value: Any) -> Any:
        return {"kind": kind, **value} if isinstance(value, dict) else value

    return BeforeValidator(add)


AggregatorConfig = Annotated[
    SimpleAggregatorConfig | TrimmedMeanConfig | KrumConfig,
    Field(discriminator="kind"),
    _of_kind("mean"),
]
ServerOptimiserConfig = Annotated[
    SgdConfig | AdamConfig | AdagradConfig, Field(discriminator="kind"), _of_kind("sgd")
]
