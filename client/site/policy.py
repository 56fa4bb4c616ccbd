"""Site file section `policy`: the limits that a hospital sets for experiments and figures."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mama.config import Experiment, Section
from mama.exchange.protocol import Sha256

HOURS = r"^([01]\d|2[0-3]):[0-5]\d-([01]\d|2[0-3]):[0-5]\d$"


class AutoApproval(Section):
    """Limits within which an experiment needs no person's approval.

    `max_steps` counts the local steps of the whole run; `private` requires patient-level privacy,
    `secure` requires secure aggregation.
    """

    max_steps: int = Field(ge=1)
    """Largest number of local steps of a run, over all rounds."""
    private: bool = False
    """Approve only experiments with patient-level privacy."""
    secure: bool = False
    """Approve only experiments with secure aggregation."""

    def covers(self, experiment: Experiment) -> bool:
        """Return whether an experiment stays within the rule."""
        return (
            experiment.total_steps <= self.max_steps
            and (experiment.privacy.mode == "patient" or not self.private)
            and (experiment.privacy.secure is not None or not self.secure)
        )


class PolicyConfig(Section):
    """The site's policy: what experiments may do here, and which figures may leave.

    `minimum_cell`: smaller counts of studies or breasts do not leave the site. The numbers of
    training studies and of their patients always leave, since they weight an update. `label_odds`:
    the largest factor by which all evaluations together may change the odds of a label of one
    breast or study; null evaluates unmasked labels, for public data. `max_evaluations`: models
    evaluated per calendar month; the default is enough for two runs of 100 rounds that evaluate
    every 5 rounds. `metrics`: groups of figures that may leave; others are dropped from answers.
    `statistics` are suppressed counts of the training data (`client/policy/statistics.py`).

    `max_round_s`: seconds of training per round after which the site sends a partial update; null
    sets no limit. `max_round_steps`: the same limit in steps. `bundles`: SHA-256 of the app bundles
    that may come with a run; they are never opened, so that null safely accepts any.

    `base_models`: the towers that an experiment may use; null accepts any. `min_cohort`: refuse
    experiments with a smaller quorum or roster. `require_privacy`: accept only experiments with
    patient-level differential privacy; without it the budget bounds only the private runs.
    `require_secure`: accept only experiments with secure aggregation. `share_licensed_weights`: the
    site's word that updates may leave without it although the licence of its data lets no weights
    be shared (`data.licence`). `hours`: local time in which
    tasks are done, such as 20:00-06:00. `max_upload_mb`: largest update in megabytes.
    `max_gpu_gib`: largest size of all tensors on the GPU in GiB. `approval`: a person approves
    every experiment except those that `auto_approve` covers.

    `min_patients_step` and `min_patients_update`: smallest number of distinct patients behind a
    step and an update; not applied under patient-level differential privacy. `allow`: exceptions
    from the bounds in `client/policy/bounds.py`: `scaffold`, `guidance`, `augment`, or the key of a
    bounded value. `max_parameters`: largest number of parameters of the whole model.
    `max_model_step`: largest move of a tensor of the global model in a round, as a multiple of this
    site's last update; the first model must be the one that the site builds itself. null accepts
    any model.
    """

    minimum_cell: int = Field(5, ge=1, le=1000)
    """Smallest count of studies or breasts that may leave."""
    label_odds: float | None = Field(3.0, gt=1, le=100)
    """Largest factor of change of a label's odds over all evaluations; null disables masking."""
    max_evaluations: int = Field(40, ge=0, le=100_000)
    """Largest number of models evaluated per month."""
    max_local_steps: int = Field(10_000, ge=1)
    """Largest number of local steps per round; experiments with more are refused."""
    max_round_s: float | None = Field(None, gt=0, le=30 * 86400)
    """Seconds of training after which a round ends early; null sets no limit."""
    max_round_steps: int | None = Field(None, ge=1)
    """Steps after which a round ends early; null sets no limit."""
    bundles: list[Sha256] | None = None
    """SHA-256 of the app bundles that are accepted (their code is never run); null accepts any."""
    base_models: list[str] | None = None
    """Names of the base models that are accepted; null accepts any."""
    min_cohort: int = Field(1, ge=1, le=10_000)
    """Smallest quorum, and roster, of an experiment that is accepted."""
    require_privacy: bool = False
    """Refuse experiments without patient-level privacy."""
    require_secure: bool = False
    """Refuse experiments without secure aggregation."""
    share_licensed_weights: bool = False
    """Send updates without secure aggregation although the data's licence lets no weights be
    shared."""
    hours: Annotated[str, Field(pattern=HOURS)] | None = None
    """Hours of the day in which the site trains, such as 20:00-06:00; null trains at any hour."""
    max_upload_mb: float | None = Field(None, gt=0)
    """Largest update that is sent, in megabytes; null sets no limit."""
    max_gpu_gib: float | None = Field(None, gt=0)
    """Largest GPU memory that is used, in GiB; null sets no limit."""
    approval: bool = False
    """Every experiment waits for a person's approval."""
    auto_approve: AutoApproval | None = None
    """Experiments within these limits need no approval; null needs it for all."""
    metrics: list[Literal["loss", "zero_shot", "linear_probe", "statistics"]] = [
        "zero_shot",
        "linear_probe",
    ]
    """Groups of figures that may leave."""
    min_patients_step: int = Field(8, ge=1, le=100_000)
    """Smallest number of patients in a step's batch."""
    min_patients_update: int = Field(32, ge=1, le=1_000_000)
    """Smallest number of patients behind an update."""
    allow: list[Annotated[str, Field(max_length=64)]] = []
    """Methods and keys that are allowed beyond the default bounds."""
    max_parameters: int = Field(1_000_000_000, ge=1)
    """Largest number of parameters of a model."""
    max_model_step: float | None = Field(10.0, gt=0, le=1e6)
    """Largest move of a tensor per round, as a multiple of the site's own; null sets no limit."""

    @model_validator(mode="after")
    def _rule_of_approvals(self) -> "PolicyConfig":
        if self.auto_approve and not self.approval:
            raise ValueError("auto_approve makes exceptions from approval; set approval: true")
        return self
