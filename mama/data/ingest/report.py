"""Summary of an ingest: counts for the console, and a page and a JSON file for the site's staff."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from mama.data.adapters.notes import NOTES, Note
from mama.data.adapters.raw import Skipped
from mama.data.dicom.reasons import REASONS
from mama.data.studies import Study
from mama.system.files import write_text

WITH_REMARKS = 3  # exit code: finished, but files were left out or remarked on
JSON, PAGE = "ingest_report.json", "ingest_report.html"

Counts = dict[str, int]


@dataclass(frozen=True)
class Contents:
    """Contents of a dataset, as counts by value."""

    patients: int
    splits: Counts
    images_a_study: Counts
    views: Counts
    sides: Counts
    vendors: Counts
    density: Counts
    sentences: Counts


@dataclass(frozen=True)
class IngestReport:
    """Result of an ingest.

    Attributes:
        studies: in the dataset.
        images: in the dataset.
        cached: images that did not have to be decoded again.
        added: studies that the last ingest did not have.
        removed: studies of the last ingest that are gone from the dataset.
        dropped_studies: studies of the source without a usable image.
        without_report: studies without report text.
        contents: counts of the dataset.
        languages: reports by language.
        redacted: identifiers in reports by rule.
        skipped: files that were not used, each with its reason.
        notes: remarks on files, table rows and studies.
    """

    studies: int
    images: int
    cached: int
    added: int
    removed: int
    dropped_studies: int
    without_report: int
    contents: Contents
    languages: Counts
    redacted: Counts
    skipped: list[Skipped]
    notes: list[Note]

    @property
    def clean(self) -> bool:
        """True if every file was used and nothing remarked on."""
        return not self.skipped and not self.notes

    @property
    def exit_code(self) -> int:
        """Exit code of the command."""
        return 0 if self.clean else WITH_REMARKS

    def lines(self, folder: Path) -> list[str]:
        """Return the summary for the console, at most ten lines; the page is in `folder`."""
        contents = self.contents
        return [
            f"{self.studies} studies of {contents.patients} patients, {self.images} images, "
            f"{self.cached} from the cache",
            f"{contents.splits.get('train', 0)} studies to train on, "
            f"{contents.splits.get('test', 0)} to test",
            f"views: {_listed(contents.views)}; sides: {_listed(contents.sides)}",
            f"density: {_listed(contents.density)}",
            f"reports: {_listed(self.languages)}; sentences: {_listed(contents.sentences)}",
            *self.remarks(),
            f"report: {folder / PAGE}",
        ]

    def remarks(self) -> list[str]:
        """Return a line each on what needs attention; empty if there is nothing."""
        lines = []
        if self.skipped:
            reasons = Counter(skipped.reason for skipped in self.skipped)
            lines.append(f"{_of(len(self.skipped), 'file')} left out: {_listed(reasons)}")
        if self.notes:
            codes = Counter(note.code for note in self.notes)
            lines.append(f"{_of(len(self.notes), 'remark')}: {_listed(codes)}")
        if self.redacted:
            found = sum(self.redacted.values())
            lines.append(f"{_of(found, 'identifier')} in reports: {_listed(self.redacted)}")
        counts = {
            "studies without a usable image were left out": self.dropped_studies,
            "studies have no report text": self.without_report,
        }
        if stated := [f"{count} {what}" for what, count in counts.items() if count]:
            lines.append("; ".join(stated))
        return lines

    def write(self, folder: Path) -> None:
        """Write the JSON file: counts, then every skipped file and remark with its meaning."""
        skipped = [
            {"file": file, "reason": code, "meaning": meaning(code)[0]}
            for file, code in self.skipped
        ]
        notes = [
            {"where": where, "code": code, "meaning": meaning(code)[0]}
            for code, where in self.notes
        ]
        values = asdict(self) | {"skipped": skipped, "notes": notes}
        write_text(folder / JSON, json.dumps(values, indent=1) + "\n")


def meaning(code: str) -> tuple[str, str]:
    """Return the meaning of a reason or remark, and what to do about it."""
    return REASONS[code] if code in REASONS else NOTES[code]


def contents_of(studies: Iterable[Study]) -> Contents:
    """Count the contents of studies."""
    studies = list(studies)
    images = [image for study in studies for image in study.images]
    return Contents(
        patients=len({study.patient for study in studies}),
        splits=_counts(study.split for study in studies),
        images_a_study=_counts(str(len(study.images)) for study in studies),
        views=_counts(image.view or "unknown" for image in images),
        sides=_counts(image.laterality or "unknown" for image in images),
        vendors=_counts(image.vendor or "unknown" for image in images),
        density=_counts(study.labels.density or "unknown" for study in studies),
        sentences=_counts(
            sentence.side or "unknown" for study in studies for sentence in study.sentences
        ),
    )


def _of(count: int, noun: str) -> str:
    """Return "1 file" or "2 files"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _counts(values: Iterable[str]) -> Counts:
    return dict(sorted(Counter(values).items()))


def _listed(counts: Counts | Counter[str]) -> str:
    """Return counts in one line, the largest first; beyond six, the rest together."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = [f"{name} {count}" for name, count in ordered[:6]]
    if rest := sum(count for _, count in ordered[6:]):
        shown.append(f"others {rest}")
    return ", ".join(shown) or "none"
