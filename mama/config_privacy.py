"""The promise of privacy: the part of an experiment that bounds what a model tells of one patient or one site."""

from typing import Literal

from pydantic import Field, model_validator

from mama.config_federation import FederationConfig
from mama.section import Section


class SecureConfig(Section):
    """Secure aggregation: the coordinator learns the mean of the updates and no single one.

    An update's values are cut to +-`limit` and rounded to 2^`bits` steps; SCAFFOLD's variates, which are as large as
    gradients, to +-`variate_limit`. A round needs `threshold` sites to its end; so many together could bare another's
    update.
    """

    threshold: int = Field(ge=2, le=4096)
    """Number of sites that can take the masks off."""
    bits: int = Field(20, ge=8, le=30)
    """Of a masked value."""
    limit: float = Field(0.1, gt=0, le=1e6)
    """Largest value of an update; larger ones are cut."""
    variate_limit: float = Field(10.0, gt=0, le=1e6)
    """Largest value of a control variate."""


class PrivacyConfig(Section):
    """Differential privacy of the whole run; docs/privacy.md says from whom it protects and what it costs.

    `patient`: a site's steps are private towards everyone outside the site. Each site has a roster of `slots` patients,
    cut anew each step into groups of `group_size`, of which each is drawn with probability `sample_rate`; the
    gradient of a group is clipped to `max_grad_norm`. `site`: the coordinator clips each site's update to
    `max_grad_norm` and adds noise to their mean. The noise follows from `epsilon`, `delta` and the planned steps or
    rounds.
    """

    mode: Literal["none", "patient", "site"] = "none"
    """None, each patient at the sites, or each site at the server."""
    epsilon: float = Field(8.0, gt=0, le=1000)
    """The budget of the whole run."""
    delta: float = Field(1e-5, gt=0, le=0.1)
    """The probability that the budget does not hold."""
    group_size: int = Field(16, ge=2, le=1024)
    """Patients whose gradient is clipped together."""
    sample_rate: float = Field(0.1, gt=0, le=1)
    """Probability of a group to be in a step."""
    max_grad_norm: float = Field(1.0, gt=0, le=1e6)
    """The longest gradient of a group, or update of a site."""
    slots: int = Field(2048, ge=2, le=10_000_000)
    """Places for patients, the same number at all sites."""
    secure: SecureConfig | None = None
    """Secure aggregation; null sends updates in the clear."""

    @model_validator(mode="after")
    def _whole_groups(self) -> "PrivacyConfig":
        if self.mode == "patient" and self.slots % self.group_size:
            raise ValueError(
                f"privacy.slots must be a multiple of privacy.group_size ({self.group_size})"
            )
        if self.mode == "patient" and self.delta * self.slots >= 1:
            raise ValueError(
                f"privacy.delta must be below 1 / privacy.slots ({1 / self.slots:.2g}): a larger one "
                "lets a whole patient be published"
            )
        return self

    @property
    def groups(self) -> int:
        """Groups of a roster."""
        return self.slots // self.group_size


def not_private_by_site(
    config: FederationConfig, privacy: PrivacyConfig
) -> tuple[tuple[bool, str], ...]:
    """What would let a site move the mean by more than its clipped update, each with its reason."""
    return (
        (
            config.aggregator.kind != "mean",
            "the noise is made for the mean; set federation.aggregator.kind mean",
        ),
        (
            config.weights != "uniform" or config.fairness > 0,
            "a weight would multiply what was clipped; set federation.weights uniform and federation.fairness 0",
        ),
        (
            config.late != "drop",
            "a late update would be a site's second in one round; set federation.late drop",
        ),
        (
            config.scaffold,
            "control variates are not clipped; leave federation.scaffold out",
        ),
        (
            privacy.secure is not None,
            "the coordinator clips each site's update, which privacy.secure keeps from it; leave one of them out",
        ),
    )


def not_hidden(config: FederationConfig, privacy: PrivacyConfig) -> tuple[tuple[bool, str], ...]:
    """What a coordinator cannot do with updates that it does not see, each with its reason."""
    secure = privacy.secure
    return (
        (
            config.exchange.up != "fp32",
            "masked updates have a coding of their own; set federation.exchange.up fp32",
        ),
        (
            config.aggregator.kind != "mean",
            "only a sum can be unmasked; set federation.aggregator.kind mean",
        ),
        (
            config.late != "drop",
            "a late update wears masks of another round; set federation.late drop",
        ),
        (
            config.fairness > 0,
            "each site's loss would be its weight; set federation.fairness 0",
        ),
        (
            config.norm_limit != FederationConfig.model_fields["norm_limit"].default,
            "nobody sees how long a single update is; leave federation.norm_limit out",
        ),
        (
            config.budget_s is not None,
            "updates of partial work are weighed one by one; leave federation.budget_s out",
        ),
        (
            secure is not None and config.quorum < secure.threshold,
            "fewer sites than the threshold cannot be unmasked; raise federation.quorum to it",
        ),
    )
