"""Report of a study at ingest: plain text without identifiers, read in its language."""

from collections import Counter
from collections.abc import Mapping
from typing import NamedTuple

from mama.config.ingest import ReportsConfig
from mama.data.adapters.raw import Part
from mama.data.reports.conflicts import conflicts_with
from mama.data.reports.formats import plain
from mama.data.reports.identifiers import redact
from mama.data.reports.language import codes, load_language, recognise
from mama.data.reports.read import ReadReport, read_parts
from mama.data.studies import Labels, Laterality


class TextOf(NamedTuple):
    """A report as ingest takes it.

    Attributes:
        read: sentences, and what they state.
        notes: codes of `mama.data.adapters.notes`.
        redacted: identifiers by rule.
    """

    read: ReadReport
    notes: tuple[str, ...] = ()
    redacted: dict[str, int] = {}


def read_text(report: str | tuple[Part, ...], labels: Labels, config: ReportsConfig) -> TextOf:
    """Read a report as the configuration says.

    Args:
        report: text, RTF, HTML or HL7 as exported, or several, each with the breast of its row.
        labels: the study's labels of the table, to be compared with the text.
        config: language of the reports, and the policy on identifiers.

    Raises:
        ConfigError: there is no table of the configured language.
    """
    texts: dict[Laterality | None, list[str]] = {}
    for part in (Part(report),) if isinstance(report, str) else report:
        texts.setdefault(part.side, []).append(plain(part.text))  # mark-up ends with its cell
    joined = {side: "\n".join(found) for side, found in texts.items()}
    code = config.language
    if code == "auto":
        code = recognise("\n".join(joined.values()))
    clean = {side: redact(text, config.identifiers, code or None) for side, text in joined.items()}
    counts: Counter[str] = Counter()
    for one in clean.values():
        counts.update(one.counts)
    if any(one.refused for one in clean.values()):
        return TextOf(ReadReport((), None), ("report-refused",), dict(counts))
    language = load_language(code) if config.language != "auto" or code in codes() else None
    read = read_parts({side: one.text for side, one in clean.items()}, language)
    notes = [f"report-{code.replace('_', '-')}" for code in read.conflicts]
    notes += [
        f"report-{code.replace('_', '-')}"
        for code in conflicts_with(read.birads, read.density, labels)
    ]
    if language is None and read.sentences:
        notes.append("language-unknown")
    return TextOf(read, tuple(notes), dict(counts))


def values(code: str, read: ReadReport, labels: Labels) -> str:
    """Return the values of the text and of the table that a remark is about; empty if of none."""
    if code == "report-density-table":
        return f"text {read.density}, table {labels.density}"
    if code == "report-birads-table":
        suspicious = {
            side: "yes" if found else "no" for side, found in (labels.suspicious or {}).items()
        }
        return f"text BI-RADS {_by_side(read.birads)}, table suspicious {_by_side(suspicious)}"
    return ""


def _by_side(found: Mapping[Laterality, str]) -> str:
    return ", ".join(f"{side} {value}" for side, value in sorted(found.items()))


def with_text(labels: Labels, read: ReadReport) -> Labels:
    """Return labels with density and BI-RADS from the text where the table has none."""
    return labels.model_copy(
        update={
            "density": labels.density or read.density,
            "birads": labels.birads or dict(read.birads) or None,
        }
    )
