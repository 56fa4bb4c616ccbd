"""Allow-list of the metrics that leave a site: these fields and no others."""

from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from mama.config import Section
from mama.config.strategy import Weights

BINS = 256
# Minimum of `kept` minus `moved`; below it, unmasking would mostly amplify noise.
LEAST_KEPT = 0.1

Count = Annotated[int, Field(ge=0, le=10**9)]
# A contrastive loss of a batch of N at scale s is at most 2 s + ln N, far below this limit.
LARGEST_LOSS = 1e4
Mean = Annotated[float, Field(ge=-LARGEST_LOSS, le=LARGEST_LOSS)]
ClassName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")]
TermName = Annotated[
    str, Field(pattern=r"^(loss|image_text|second_text|image_image|local|guidance)$")
]


def bounded(terms: dict[str, float]) -> dict[str, float]:
    """Return the losses clipped to the range that may leave a site."""
    return {name: min(max(value, -LARGEST_LOSS), LARGEST_LOSS) for name, value in terms.items()}


class PrivacySpent(Section):
    """Privacy spent according to the site's ledger, over all private steps of all runs.

    No field depends on data. `epsilon` (RDP) protects against a patient being removed,
    `replace_one` against one being replaced by another, both at `delta`; None means no bound.
    `run_epsilon` covers only the `run_steps` of the requesting run, at the experiment's delta.
    `head` is the hash of the ledger so far: the coordinator keeps it to detect an older ledger.
    """

    epsilon: float = Field(ge=0, le=1e9)
    replace_one: float | None = Field(ge=0, le=1e12)
    delta: float = Field(gt=0, lt=1)
    steps: Count
    run_epsilon: float = Field(ge=0, le=1e9)
    run_steps: Count
    head: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class TrainingMetrics(Section):
    """Metrics of one round of local training: weights of the update, and mean losses in `terms`.

    Private training reveals nothing that depends on data: `studies` and `patients` are the public
    number of slots, `steps` is the planned number, `seconds` is 0, and `terms` is empty; `privacy`
    is the budget spent by the site's patients.
    """

    studies: int = Field(ge=1, le=10**9)
    patients: int = Field(ge=1, le=10**9)
    steps: Count
    skipped: Count
    seconds: float = Field(ge=0, le=1e9)
    terms: dict[TermName, Mean]
    privacy: PrivacySpent | None = None

    def weight(self, by: Weights) -> float:
        """Return the update's weight; under secure aggregation site and server must agree on it."""
        counts: dict[Weights, int] = {
            "studies": self.studies,
            "patients": self.patients,
            "steps": self.steps,
            "uniform": 1,
        }
        return float(counts[by])


class Cell(Section):
    """Counts of one score interval: the fine bins `start` to `stop` (exclusive) of BINS."""

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
    """Counts of right and wrong predictions for a class, and of other classes predicted as it."""

    correct: Count
    wrong: Count
    mistaken: Count = 0

    @property
    def units(self) -> int:
        """Number of units of the class."""
        return self.correct + self.wrong


class LabelCounts(Section):
    """Evaluation of one label: score histograms and recalls by class; None for too small classes.

    The site masks the true classes (`mama.evaluation.masking`): each is kept with probability
    `kept` and changed to any particular other one with probability `moved`.
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
            raise ValueError("labels masked this strongly carry no information")
        return self


Label = Literal["density", "suspicious"]
Method = Literal["zero_shot", "linear_probe"]
LABELS: tuple[Label, ...] = ("density", "suspicious")
METHODS: tuple[Method, ...] = ("zero_shot", "linear_probe")


class EvaluationCounts(Section):
    """Complete evaluation result of a site; labels and methods without ground truth are absent."""

    counts: dict[Method, dict[Label, LabelCounts]]


Attribute = Literal["density", "BI-RADS", "vendor", "view", "age"]
ATTRIBUTES: tuple[Attribute, ...] = get_args(Attribute)
UNKNOWN = "unknown"
OTHER = "other"
# Words of DICOM's Manufacturer, by the name that leaves a site: the field itself is free text.
VENDOR_WORDS = {
    "Hologic": ("hologic", "lorad"),
    "GE": ("ge", "general electric"),
    "Siemens": ("siemens",),
    "Fujifilm": ("fuji", "fujifilm"),
    "Philips": ("philips", "sectra"),
    "IMS": ("ims", "giotto"),
    "Planmed": ("planmed",),
    "Carestream": ("carestream", "kodak"),
    "Agfa": ("agfa",),
    "Konica": ("konica",),
    "Canon": ("canon", "toshiba"),
}
# The closed list of categories. Densities are those of BI-RADS, and mini-MIAS's F, G and D.
CATEGORIES: dict[Attribute, tuple[str, ...]] = {
    "density": ("A", "B", "C", "D", "F", "G", UNKNOWN),
    "BI-RADS": ("0", "1", "2", "3", "4", "5", "6", UNKNOWN),
    "vendor": (*VENDOR_WORDS, OTHER, UNKNOWN),
    "view": ("CC", "MLO", "ML", "LM", OTHER, UNKNOWN),
    "age": (
        *("<30", "30-39", "40-49", "50-59", "60-69", "70-79", "80-89", "90+"),
        UNKNOWN,
    ),
}


class Table(Section):
    """Counts of one attribute; `total` is the sum of all cells, the suppressed ones included."""

    total: Count
    cells: dict[str, Count | None]


class DataStatistics(Section):
    """Statistics of a site's training data; `minimum` is its `policy.minimum_cell`.

    Each count is of patients and a multiple of `minimum`; a patient counts once in each category
    that one of their training studies has. A category without a patient is left out; a suppressed
    one is None (`client/privacy/suppression.py`).
    """

    minimum: int = Field(ge=1, le=1000)
    patients: Count
    studies: Count
    tables: dict[Attribute, Table]

    @model_validator(mode="after")
    def _possible(self) -> "DataStatistics":
        """Refuse what no honest site sends, without repeating names that the site chose."""
        counts = [self.patients, self.studies]
        for attribute, table in self.tables.items():
            if not set(table.cells) <= set(CATEGORIES[attribute]):
                raise ValueError(f"{attribute} has an unknown category")
            shown = [count for count in table.cells.values() if count is not None]
            counts += [table.total, *shown]
            # Each cell and the total are rounded by half of the minimum at most.
            slack = self.minimum * (len(shown) + 1) / 2
            hidden = len(shown) < len(table.cells)
            excess = sum(shown) - table.total
            if excess > slack or (not hidden and -excess > slack):
                raise ValueError(f"the cells of {attribute} do not add up to its total")
            if 0 in shown:
                raise ValueError(f"{attribute} has an empty cell")
        if any(count % self.minimum for count in counts):
            raise ValueError("a count is no multiple of the minimum")
        return self
