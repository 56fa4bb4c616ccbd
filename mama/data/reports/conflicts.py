"""Contradictions within a report, and between a report and its row of a table."""

from dataclasses import dataclass, field

from mama.data.reports.categories.birads import RISING
from mama.data.studies import Labels, Laterality


@dataclass
class Stated:
    """Everything that a report states, in its order.

    Categories are of a whole breast, of one lesion in it, or of the exam.
    """

    breasts: dict[Laterality, list[str]] = field(default_factory=lambda: {"L": [], "R": []})
    lesions: dict[Laterality, list[str]] = field(default_factory=lambda: {"L": [], "R": []})
    exam: list[str] = field(default_factory=list)
    implied: list[str] = field(default_factory=list)  # of a breast that only the context names
    density: list[str] = field(default_factory=list)
    findings: dict[Laterality, dict[str, set[str]]] = field(
        default_factory=lambda: {"L": {}, "R": {}}
    )
    chain: int = -1  # paragraph of the last sentence with a category


def conflicts(stated: Stated) -> tuple[str, ...]:
    """Return codes of the contradictions within a report.

    birads_disagree: two categories of one breast or of the exam.
    birads_below_breast: the exam's category is of less concern than that of a breast.
    birads_1_with_finding: "negative" beside a mass, calcification, asymmetry or distortion that
    only a benign category allows.
    density_disagree: two densities.
    """
    codes = []
    breasts = stated.breasts
    worst = max((RISING.index(values[-1]) for values in breasts.values() if values), default=-1)
    if any(len(set(values)) > 1 for values in (stated.exam, *breasts.values())):
        codes.append("birads_disagree")
    elif stated.exam and RISING.index(stated.exam[-1]) < worst:
        codes.append("birads_below_breast")
    for breast, values in breasts.items():
        kinds = stated.findings[breast]
        found = any("present" in kinds.get(kind, ()) for kind in ("mass", "distortion"))
        if values and values[-1] == "1" and found:
            codes.append("birads_1_with_finding")
            break
    if len(set(stated.density)) > 1:
        codes.append("density_disagree")
    return tuple(codes)


def conflicts_with(
    birads: dict[Laterality, str], density: str | None, labels: Labels
) -> tuple[str, ...]:
    """Return codes of the contradictions between a report and its labels of a table.

    density_table: the densities differ. birads_table: a breast of BI-RADS 4 or 5 that the table
    calls not suspicious, or one of BI-RADS 1 or 2 that it calls suspicious.
    """
    codes = []
    if density and labels.density in ("A", "B", "C", "D") and labels.density != density:
        codes.append("density_table")
    for breast, suspicious in (labels.suspicious or {}).items():
        category = birads.get(breast, "0")[0]
        if (category in "456" and not suspicious) or (category in "12" and suspicious):
            codes.append("birads_table")
            break
    return tuple(codes)
