"""The promise of privacy: the part of an experiment that bounds what a model tells of one patient or one site."""

from typing import TYPE_CHECKING, Literal

from pydantic import Field, model_validator

from mama.section import Section

if TYPE_CHECKING:
    from mama.config import Experiment


class PrivacyConfig(Section):
    """Differential privacy of the whole run; docs/privacy.md says from whom it protects and what it costs.

    `patient`: a site's steps are private towards everyone outside the site. Each site has a roster of `slots` patients,
    cut anew each step into groups of `group_size`, of which each is drawn with probability `sample_rate`; the
    gradient of a group is clipped to `max_grad_norm`. The noise follows from `epsilon`, `delta` and the planned steps.
    """

    mode: Literal["none", "patient"] = "none"
    epsilon: float = Field(8.0, gt=0, le=1000)
    delta: float = Field(1e-5, gt=0, le=0.1)
    group_size: int = Field(16, ge=2, le=1024)
    sample_rate: float = Field(0.1, gt=0, le=1)
    max_grad_norm: float = Field(1.0, gt=0, le=1e6)
    slots: int = Field(2048, ge=2, le=10_000_000)

    @model_validator(mode="after")
    def _whole_groups(self) -> "PrivacyConfig":
        if self.mode == "patient" and self.slots % self.group_size:
            raise ValueError(
                f"privacy.slots must be a multiple of privacy.group_size ({self.group_size})"
            )
        return self

    @property
    def groups(self) -> int:
        """Groups of a roster."""
        return self.slots // self.group_size


def not_private(experiment: "Experiment") -> tuple[tuple[bool, str], ...]:
    """What would make the stated epsilon untrue, each with its reason."""
    config, compute = experiment, experiment.compute
    return (
        (
            compute.precision == "fp16",
            "fp16's loss scale would carry one patient's overflow to other steps; set compute.precision bf16 or fp32",
        ),
        (
            config.heads.norm == "batch",
            "BatchNorm's running statistics are neither clipped nor noised; set heads.norm layer",
        ),
        (
            compute.chunk is not None,
            "a group is computed whole, as its gradient is clipped whole; leave compute.chunk out and lower "
            "privacy.group_size",
        ),
        (
            config.optimiser.accumulate > 1,
            "a step is one Poisson sample of groups; set optimiser.accumulate 1 and raise privacy.sample_rate",
        ),
        (
            config.federation.budget_s is not None,
            "the number of steps done in time would tell of the groups drawn; leave federation.budget_s out",
        ),
        (
            config.federation.evaluate_every > 0,
            "evaluations are not noised and stay at the sites; set federation.evaluate_every 0",
        ),
        (
            config.federation.weights not in ("studies", "uniform")
            or config.federation.fairness > 0,
            "patients, steps and losses are the data's; set federation.weights uniform and federation.fairness 0",
        ),
        (
            config.federation.scaffold or config.federation.guidance > 0,
            "control variates and guidance use gradients beside the clipped ones; leave federation.scaffold and "
            "federation.guidance out",
        ),
    )
