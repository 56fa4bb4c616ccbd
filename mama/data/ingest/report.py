"""Summary of an ingest: about ten lines for the console, and a JSON file with everything."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from mama.data.adapters.notes import NOTES, Note
from mama.data.adapters.raw import Skipped
from mama.data.dicom.reasons import REASONS
from mama.data.ingest.contents import Contents, Counts, listed
from mama.data.ingest.earlier import JSON
from mama.system.files import write_text
from mama.system.formats import counted

WITH_REMARKS = 3  # exit code: finished, but files were left out or remarked on
PAGE = "ingest_report.html"


class Group(NamedTuple):
    """Files or places with one reason or remark.

    Attributes:
        code: a key of `REASONS` or `NOTES`.
        meaning: of the code.
        fix: suggested remedy.
        places: paths relative to the source, lines of tables.
        more: by how many they outnumber those of the last ingest; None if those are not known.
    """

    code: str
    meaning: str
    fix: str
    places: list[str]
    more: int | None

    @property
    def expected(self) -> bool:
        """True if an ordinary export has such files and nobody needs to act."""
        return self.fix.startswith("Nothing")


@dataclass(frozen=True)
class IngestReport:
    """Result of an ingest.

    Attributes:
        studies: in the dataset.
        images: in the dataset.
        cached: images that did not have to be decoded again.
        added: studies that the last ingest did not have.
        changed: studies with other images, text or labels than at the last ingest.
        removed: studies of the last ingest that are gone from the dataset.
        dropped_studies: studies of the source without a usable image.
        without_report: studies without report text.
        contents: counts of the dataset.
        languages: reports by language.
        redacted: identifiers in reports by rule.
        skipped: files that were not used, each with its reason.
        notes: remarks on files, table rows and studies.
        before: counts of the last ingest by reason and remark; None if they are not known.
    """

    studies: int
    images: int
    cached: int
    added: int
    changed: int
    removed: int
    dropped_studies: int
    without_report: int
    contents: Contents
    languages: Counts
    redacted: Counts
    skipped: list[Skipped]
    notes: list[Note]
    before: Counts | None

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
            f"{contents.splits.get('test', 0)} to test{self._since()}",
            f"views: {listed(contents.views)}; sides: {listed(contents.sides)}",
            "; ".join(
                filter(
                    None,
                    (
                        f"density: {listed(contents.density)}",
                        f"BI-RADS: {listed(contents.birads)}",
                        contents.marked(),
                    ),
                )
            ),
            f"reports: {listed(self.languages)}; sentences: {listed(contents.sentences)}",
            *self.remarks(),
            f"report: {folder / PAGE}",
        ]

    def remarks(self) -> list[str]:
        """Return at most four lines on what needs attention; none if there is nothing."""
        lines = []
        shrunk = [note for note in self.notes if note.code == "source-shrank"]
        if self.skipped:
            reasons = Counter(skipped.reason for skipped in self.skipped)
            lines.append(f"{counted(len(self.skipped), 'file')} left out: {listed(reasons)}")
        lines += [
            f"no longer in the source, but kept: {note.where}. {NOTES[note.code][1]}"
            for note in shrunk
        ]
        if self.notes:
            codes = Counter(note.code for note in self.notes)
            lines.append(f"{counted(len(self.notes), 'remark')}: {listed(codes)}")
        stated = []
        if self.redacted:
            found = sum(self.redacted.values())
            stated.append(f"{counted(found, 'identifier')} in reports: {listed(self.redacted)}")
        counts = {
            "studies without a usable image were left out": self.dropped_studies,
            "studies have no report text": self.without_report,
        }
        stated += [f"{count} {what}" for what, count in counts.items() if count]
        return [*lines, "; ".join(stated)] if stated else lines

    def _since(self) -> str:
        """Return the changes since the last ingest; empty if there was none."""
        if self.before is None:
            return ""
        return (
            f"; since the last ingest {self.added} new, {self.changed} changed, "
            f"{self.removed} removed"
        )

    def left_out(self) -> list[Group]:
        """Return the files that were not used by reason, the most frequent first."""
        return self._grouped((reason, file) for file, reason in self.skipped)

    def remarked(self) -> list[Group]:
        """Return the remarks by code, the most frequent first."""
        return self._grouped((note.code, str(note)) for note in self.notes)

    def write(self, folder: Path) -> None:
        """Write the JSON file: counts, then every skipped file and remark by its code."""
        values = asdict(self)
        del values["skipped"], values["notes"]
        groups = {"left_out": self.left_out(), "remarks": self.remarked()}
        values["by_code"] = {g.code: len(g.places) for found in groups.values() for g in found}
        values |= {name: [group._asdict() for group in found] for name, found in groups.items()}
        write_text(folder / JSON, json.dumps(values, indent=1) + "\n")

    def _grouped(self, found: Iterable[tuple[str, str]]) -> list[Group]:
        places: dict[str, list[str]] = defaultdict(list)
        for code, where in found:
            places[code].append(where)
        ordered = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
        return [
            Group(code, *meaning(code), where, self._more(code, where)) for code, where in ordered
        ]

    def _more(self, code: str, places: list[str]) -> int | None:
        return None if self.before is None else len(places) - self.before.get(code, 0)


def meaning(code: str) -> tuple[str, str]:
    """Return the meaning of a reason or remark, and what to do about it."""
    return REASONS[code] if code in REASONS else NOTES[code]
