"""Privacy configuration: bounds on what a model reveals about one patient or one site."""

from typing import Literal

from pydantic import Field, model_validator

from mama.config.base import Section
from mama.config.federation import ExchangeConfig, ParticipationConfig
from mama.config.strategy import StrategyConfig


class SecureConfig(Section):
    """Secure aggregation: the coordinator learns only the mean of the updates.

    Values of an update are clipped to +-`limit` and rounded to 2^`bits` levels; SCAFFOLD's control
    variates, as large as gradients, are clipped to +-`variate_limit`. A round needs `threshold`
    sites until its end; that many colluding sites could unmask another's update.
    """

    threshold: int = Field(ge=2, le=4096)
    """Number of sites needed to remove the masks."""
    bits: int = Field(20, ge=8, le=30)
    """Bits per masked value."""
    limit: float = Field(0.1, gt=0, le=1e6)
    """Largest magnitude of a value of an update; larger values are clipped."""
    variate_limit: float = Field(10.0, gt=0, le=1e6)
    """Largest magnitude of a value of a control variate; larger values are clipped."""


class PrivacyConfig(Section):
    """Differential privacy of the whole run; docs/privacy.md covers threat model and cost.

    `patient`: a site's steps are private towards everyone outside the site. Each site has `slots`
    patient slots, partitioned anew each step into groups of `group_size`, each of which is sampled
    with probability `sample_rate`; the gradient of a group is clipped to `max_grad_norm`. `site`:
    the coordinator clips each site's update to `max_grad_norm` and adds noise to the mean. The
    noise follows from `epsilon`, `delta` and the planned steps or rounds.
    """

    mode: Literal["none", "patient", "site"] = "none"
    """Unit of protection: none, each patient (at the sites) or each site (at the server)."""
    epsilon: float = Field(8.0, gt=0, le=1000)
    """Privacy budget of the whole run."""
    delta: float = Field(1e-5, gt=0, le=0.1)
    """Probability that the guarantee of epsilon does not hold."""
    group_size: int = Field(16, ge=2, le=1024)
    """Patients whose joint gradient is clipped."""
    sample_rate: float = Field(0.1, gt=0, le=1)
    """Probability that a group is sampled in a step."""
    max_grad_norm: float = Field(1.0, gt=0, le=1e6)
    """Largest norm of a group's gradient or of a site's update."""
    slots: int = Field(2048, ge=2, le=10_000_000)
    """Patient slots per site, the same number at all sites."""
    secure: SecureConfig | None = None
    """Secure aggregation; null sends unmasked updates."""

    @model_validator(mode="after")
    def _whole_groups(self) -> "PrivacyConfig":
        if self.mode == "patient" and self.slots % self.group_size:
            raise ValueError(
                f"privacy.slots must be a multiple of privacy.group_size ({self.group_size})"
            )
        if self.mode == "patient" and self.delta * self.slots >= 1:
            raise ValueError(
                f"privacy.delta must be below 1 / privacy.slots ({1 / self.slots:.2g}): a larger "
                "one would allow a patient to be published entirely"
            )
        return self

    @property
    def groups(self) -> int:
        """Number of groups in which the slots are partitioned."""
        return self.slots // self.group_size


def not_private_by_site(
    strategy: StrategyConfig, participation: ParticipationConfig, privacy: PrivacyConfig
) -> tuple[tuple[bool, str], ...]:
    """Return conditions under which a site could move the mean by more than its clipped update."""
    return (
        (
            strategy.aggregator.kind != "mean",
            "the noise is calibrated for the mean; set strategy.aggregator.kind mean",
        ),
        (
            strategy.weights != "uniform" or strategy.fairness > 0,
            "a weight would multiply the clipped update; set strategy.weights uniform and "
            "strategy.fairness 0",
        ),
        (
            participation.late != "drop",
            "a late update would be a site's second one in a round; set participation.late drop",
        ),
        (
            strategy.scaffold,
            "control variates are not clipped; leave strategy.scaffold out",
        ),
        (
            privacy.secure is not None,
            "the coordinator clips each site's update, which privacy.secure hides from it; "
            "leave one of the two out",
        ),
    )


def not_hidden(
    strategy: StrategyConfig,
    participation: ParticipationConfig,
    exchange: ExchangeConfig,
    privacy: PrivacyConfig,
) -> tuple[tuple[bool, str], ...]:
    """Return conditions that need individual updates, which the coordinator does not see."""
    secure = privacy.secure
    return (
        (
            exchange.up != "fp32",
            "masked updates have their own encoding; set exchange.up fp32",
        ),
        (
            strategy.aggregator.kind != "mean",
            "only a sum can be unmasked; set strategy.aggregator.kind mean",
        ),
        (
            participation.late != "drop",
            "a late update carries the masks of another round; set participation.late drop",
        ),
        (
            strategy.fairness > 0,
            "each site's loss would be its weight; set strategy.fairness 0",
        ),
        (
            strategy.norm_limit != StrategyConfig.model_fields["norm_limit"].default,
            "the norm of a single update is hidden; leave strategy.norm_limit out",
        ),
        (
            participation.budget_s is not None,
            "partial updates are weighted one by one; leave participation.budget_s out",
        ),
        (
            secure is not None and participation.quorum < secure.threshold,
            "fewer sites than the threshold cannot be unmasked; raise participation.quorum to it",
        ),
    )
