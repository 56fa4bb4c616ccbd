"""Records of one exam: images, report and labels; `mama.data.manifest` reads datasets of them."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Laterality = Literal["L", "R"]
Split = Literal["train", "test"]


class Record(BaseModel):
    """Base of a dataset's records: immutable, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Box(Record):
    """A finding's box in pixels of the cached picture, which is cropped, mirrored and resized.

    `x0` and `x1` count from the chest wall, `y0` and `y1` downwards; the end is excluded.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    label: str


class Image(Record):
    """One mammogram in the cache.

    `boxes` are the lesions that the set marks in it, for evaluation; `flags` are its special kinds
    (`mama.config.ingest.Kind`), such as "synthetic".
    """

    id: str
    laterality: Laterality | None
    view: str | None
    vendor: str | None
    height: int
    width: int
    boxes: tuple[Box, ...] = ()
    flags: tuple[str, ...] = ()


class Labels(Record):
    """Labels of a study for evaluation; None if unknown.

    `density` is the site's category name (BI-RADS "A".."D", or MIAS "F", "G", "D"). By laterality,
    `suspicious` says whether the breast has a suspicious lesion, `birads` gives its category ("0"
    to "6", "4A" to "4C"), `cancer` whether pathology found cancer, `findings` what is seen in it.
    """

    density: str | None = None
    suspicious: dict[Laterality, bool] | None = None
    birads: dict[Laterality, str] | None = None
    cancer: dict[Laterality, bool] | None = None
    findings: dict[Laterality, tuple[str, ...]] | None = None


class Sentence(Record):
    """One sentence of a report, or its part about one breast.

    `side` is the breast that it is about; None if that cannot be known, so that it belongs to
    neither breast alone. `section` is the part of the report: findings, impression, assessment,
    addendum, composition, comparison or indication; None without a heading.
    """

    text: str
    side: Literal["L", "R", "both"] | None
    section: str | None


class Study(Record):
    """One exam of one patient; `patient` and `id` are keyed hashes without meaning elsewhere.

    `age` is the band of the patient's age, such as 50-59; None if unknown.
    """

    id: str
    patient: str
    split: Split
    images: tuple[Image, ...]
    sentences: tuple[Sentence, ...]
    labels: Labels
    age: str | None = None

    def about(self, side: Laterality | None) -> tuple[Sentence, ...]:
        """Return all sentences but those about the other breast; None is the whole report.

        A sentence of unknown side is in the text of both breasts. The local term leaves it out
        (`mama.training.objective`), since it would teach that a finding is where it is not.
        """
        return tuple(s for s in self.sentences if side is None or s.side in (side, "both", None))

    def texts(self, side: Laterality | None = None) -> tuple[str, ...]:
        """Return the texts of the sentences of `about`."""
        return tuple(sentence.text for sentence in self.about(side))
