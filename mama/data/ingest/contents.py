"""Contents of a dataset as counts by value, for the reports on an ingest."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from mama.data.studies import Image, Study

Counts = dict[str, int]
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Contents:
    """Contents of a dataset, as counts by value; `birads` and `pathology` count breasts."""

    patients: int
    splits: Counts
    views_a_study: Counts
    views: Counts
    sides: Counts
    vendors: Counts
    spacing: Counts
    density: Counts
    birads: Counts
    sentences: Counts
    pathology: Counts
    boxes: Counts
    flags: Counts

    def marked(self) -> str:
        """Return the counts of pathology, boxes and special images in one line; empty if none."""
        named = {
            "pathology of breasts": self.pathology,
            "boxes": self.boxes,
            "special images": self.flags,
        }
        return "; ".join(f"{name}: {listed(counts)}" for name, counts in named.items() if counts)


def contents_of(studies: Iterable[Study], spacings: Iterable[float | None]) -> Contents:
    """Count the contents of studies.

    Args:
        studies: of the dataset.
        spacings: of the pixels of its images in mm.
    """
    studies = list(studies)
    images = [image for study in studies for image in study.images]
    return Contents(
        patients=len({study.patient for study in studies}),
        splits=_counts(study.split for study in studies),
        views_a_study=_counts(_views(study) for study in studies),
        views=_counts(image.view for image in images),
        sides=_counts(image.laterality for image in images),
        vendors=_counts(image.vendor for image in images),
        spacing=_counts(f"{spacing:.3f} mm" if spacing else None for spacing in spacings),
        density=_counts(study.labels.density for study in studies),
        birads=_counts(
            (study.labels.birads or {}).get(side)
            for study in studies
            for side in {image.laterality for image in study.images}
            if side
        ),
        sentences=_counts(sentence.side for study in studies for sentence in study.sentences),
        pathology=_counts(
            "cancer" if cancer else "no cancer"
            for study in studies
            for cancer in (study.labels.cancer or {}).values()
        ),
        boxes=_counts(box.label for image in images for box in image.boxes),
        flags=_counts(flag for image in images for flag in image.flags),
    )


def listed(counts: Counts | Counter[str]) -> str:
    """Return counts in one line, the largest first; beyond six, the rest together."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} ({count})" for name, count in ordered[:6]]
    if rest := sum(count for _, count in ordered[6:]):
        shown.append(f"others ({rest})")
    return ", ".join(shown) or "none"


def place_of(image: Image) -> str:
    """Return side and view, such as LCC; a question mark stands for either that is unknown."""
    return f"{image.laterality or '?'}{image.view or '?'}"


def _views(study: Study) -> str:
    """Return the views of a study, such as "LCC LMLO x2"."""
    counts = Counter(place_of(image) for image in study.images)
    return " ".join(f"{name} x{n}" if n > 1 else name for name, n in sorted(counts.items()))


def _counts(values: Iterable[str | None]) -> Counts:
    return dict(sorted(Counter(value or UNKNOWN for value in values).items()))
