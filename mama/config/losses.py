"""Loss configuration: weights, starts and temperatures of the four terms."""

from pydantic import Field, model_validator

from mama.config.base import Fraction, Section, Weight


class TermConfig(Section):
    """One loss term: its weight, and the fraction of the planned steps after which it is added."""

    weight: Weight = 1.0
    """Weight of the term; 0 disables it."""
    start: Fraction = 0.0
    """Fraction of the planned steps after which the term is added."""


class LossConfig(Section):
    """Four loss terms of MaMA; the paper adds the last three at step 8000 of 40000."""

    image_text: TermConfig = TermConfig()
    """Contrastive term between an image and its report."""
    second_text: TermConfig = TermConfig()
    """Contrastive term between the second view and the report."""
    image_image: TermConfig = TermConfig()
    """Contrastive term between the two views."""
    local: TermConfig = TermConfig(start=0.2)
    """Contrastive term between patches and sentences."""
    view_temperature: float = Field(0.5, gt=0, le=10)
    """Temperature of the term between the two views."""
    max_scale: float = Field(
        100.0, ge=1, le=1000, description="upper limit of exp(logit scale), for both logit scales"
    )
    identical_texts_match: bool = True
    """Treat equal reports of two patients as positives."""
    other_breast_text: bool = Field(
        False,
        description="also match a second view of the other breast with this side's report (paper)",
    )

    @model_validator(mode="after")
    def _one_from_the_start(self) -> "LossConfig":
        terms = (self.image_text, self.second_text, self.image_image, self.local)
        if not any(term.weight > 0 and term.start == 0 for term in terms):
            raise ValueError("at least one term needs a weight above 0 and start 0")
        return self
