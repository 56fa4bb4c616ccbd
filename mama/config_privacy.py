"""The promise of privacy: the part of an experiment that bounds what a model tells of one patient or one site."""

from typing import Literal

from pydantic import Field, model_validator

from mama.section import Section


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
