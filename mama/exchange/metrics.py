"""The allow-list of figures that leave a site: these fields and no others."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from mama.config import Section
from mama.config_federation import Weights

BINS = 256
# Of `kept` above `moved`: below it a figure would be noise, multiplied.
LEAST_KEPT = 0.1

Count = Annotated[int, Field(ge=0, le=10**9)]
# A contrastive loss of a batch of N at scale s is at most 2 s + ln N: far below this for any batch and scale.
LARGEST_LOSS = 1e4
Mean = Annotated[float, Field(ge=-LARGEST_LOSS, le=LARGEST_LOSS)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
TermName = Annotated[
    str, Field(pattern=r"^(loss|image_text|second_text|image_image|local|guidance)$")
]


def bounded(terms: dict[str, float]) -> dict[str, float]:
    """Losses cut to what may leave a site."""
    return {name: min(max(value, -LARGEST_LOSS), LARGEST_LOSS) for name, value in terms.items()}


class PrivacySpent(Section):
    """What a site's ledger says of all its private steps so far, of whatever run; nothing of it depends on data.

    `epsilon` (RDP) is for a patient blanked out, `replace_one` for one replaced by another, both at `delta`; None
    where there is no bound. `run_epsilon` is that of the asking run's `run_steps` alone, at the experiment's delta.
    `head` seals the ledger up to here: the coordinator keeps it, to notice an older one.
    """

    epsilon: float = Field(ge=0, le=1e9)
    replace_one: float | None = Field(ge=0, le=1e12)
    delta: float = Field(gt=0, lt=1)
    steps: Count
    run_epsilon: float = Field(ge=0, le=1e9)
    run_steps: Count
    head: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TrainingMetrics(Section):
    """One round of local training: what an update can be weighted by, and in `terms` the mean of each loss.

    Of private training nothing that depends on data leaves: `studies` and `patients` are the roster's public size,
    `steps` what was planned, `seconds` 0, and there are no terms; `privacy` is what the site's patients have paid.
    """

    studies: int = Field(ge=1, le=10**9)
    patients: int = Field(ge=1, le=10**9)
    steps: Count
    skipped: Count
    seconds: float = Field(ge=0, le=1e9)
    terms: dict[TermName, Mean]
    privacy: PrivacySpent | None = None

    def weight(self, by: Weights) -> float:
        """What the update counts by `federation.weights`; site and server must agree on it under secure aggregation."""
        counts: dict[Weights, int] = {
            "studies": self.studies,
            "patients": self.patients,
            "steps": self.steps,
            "uniform": 1,
        }
        return float(counts[by])


class Cell(Section):
    """Counts of one score interval: fine bins `start` to `stop` (exclusive) of BINS."""

    start: int = Field(ge=0, lt=BINS)
    stop: int = Field(gt=0, le=BINS)
    negatives: Count
    positives: Count

    @model_validator(mode="after")
    def _ordered(self) -> "Cell":
        if self.start >= self.stop:
            raise ValueError("a cell's start must be below its stop")
        return self


class Recall(Section):
    """Counts of right and wrong answers on one class, and of other classes' units that were taken for it."""

    correct: Count
    wrong: Count
    mistaken: Count = 0

    @property
    def units(self) -> int:
        """The number of units of the class."""
        return self.correct + self.wrong


class LabelCounts(Section):
    """One label's evaluation: score histograms and recalls by class; None where a class is too small.

    The site masked the true classes (`mama.evaluation.masking`): each stayed with probability `kept` and became any
    one other with `moved`.
    """

    histograms: Annotated[
        dict[ClassName, Annotated[list[Cell], Field(max_length=BINS)] | None], Field(max_length=16)
    ]
    recalls: Annotated[dict[ClassName, Recall | None], Field(max_length=16)]
    kept: float = Field(1.0, gt=0, le=1)
    moved: float = Field(0.0, ge=0, le=0.5)

    @model_validator(mode="after")
    def _answerable(self) -> "LabelCounts":
        if self.kept - self.moved < LEAST_KEPT:
            raise ValueError("labels that are masked so much say nothing")
        return self


Label = Literal["density", "suspicious"]
Method = Literal["zero_shot", "linear_probe"]
LABELS: tuple[Label, ...] = ("density", "suspicious")
METHODS: tuple[Method, ...] = ("zero_shot", "linear_probe")


class EvaluationCounts(Section):
    """All that a site says of an evaluation. A label or method without ground truth is absent."""

    counts: dict[Method, dict[Label, LabelCounts]]
