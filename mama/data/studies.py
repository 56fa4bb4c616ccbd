"""What is known of one exam: its images, report and labels. Reading a dataset of them is mama/data/manifest.py's."""

from typing import Literal

from pydantic import BaseModel, ConfigDict

Laterality = Literal["L", "R"]
Split = Literal["train", "test"]


class Record(BaseModel):
    """Base of a dataset's records: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Image(Record):
    """One mammogram in the cache."""

    id: str
    laterality: Laterality | None
    view: str | None
    vendor: str | None
    height: int
    width: int


class Labels(Record):
    """What is known about a study for evaluation; None where the table is silent.

    `density` is the site's category name (BI-RADS "A".."D", or MIAS "F", "G", "D"); `suspicious` says for each
    breast, by laterality, whether it holds a suspicious lesion.
    """

    density: str | None = None
    suspicious: dict[Laterality, bool] | None = None


class Study(Record):
    """One exam of one patient. `patient` and `id` are keyed hashes that mean nothing outside the site."""

    id: str
    patient: str
    split: Split
    images: tuple[Image, ...]
    sentences: tuple[str, ...]
    labels: Labels
