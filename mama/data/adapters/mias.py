"""Adapter for mini-MIAS films (Suckling et al. 1994) and their label table.

The folder holds `png/mdbNNN.png` or `.pgm` files and a table `labels`. Consecutive odd and even
numbers are the two breasts of one patient, always in MLO view. Their laterality is not documented:
odd numbers are called right and even numbers left, merely to tell the two apart.

A row of `labels` is one finding: film, tissue (F, G, D), class, severity (B, M) and position; the
position is not used. mini-MIAS has no reports, so they are rendered from the table. Films without a
row have neither report nor labels.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.mias_wording import DENSITY, FINDINGS, Finding, render
from mama.data.adapters.raw import RawDataset, RawImage, RawStudy
from mama.data.studies import Labels, Laterality
from mama.errors import DataError

TABLE = "labels"
FILM = re.compile(r"mdb(\d{3})")


class Film(NamedTuple):
    """Labels of one film."""

    density: str
    findings: list[Finding]


def read(source: Path, config: IngestConfig = DEFAULTS, *_: object) -> RawDataset:
    """Read the films and the label table of a folder.

    Raises:
        DataError: the table has an unknown code or contradicts itself. The message gives the line
            number.
    """
    table = _read_table(source / TABLE)
    patients: dict[int, list[int]] = defaultdict(list)
    films = _films(source / "png" if (source / "png").is_dir() else source)
    for number in sorted(films):
        patients[patient_number(number)].append(number)
    return RawDataset(
        tuple(_study(patient, numbers, films, table) for patient, numbers in patients.items())
    )


def patient_number(film: int) -> int:
    """Return the patient number of a film; films 1 and 2 belong to patient 1."""
    return (film + 1) // 2


def _study(
    patient: int, numbers: list[int], films: dict[int, Path], table: dict[int, Film]
) -> RawStudy:
    name = f"mias{patient:03d}"
    described = {_side(number): table[number] for number in numbers if number in table}
    densities = {film.density for film in described.values()}
    density = densities.pop() if len(densities) == 1 else None
    suspicious = {
        side: any(finding.malignant for finding in film.findings)
        for side, film in described.items()
    }
    sides = {side: film.findings for side, film in described.items()}
    return RawStudy(
        patient=name,
        study=name,
        split=None,
        images=tuple(
            RawImage(films[number], f"mdb{number:03d}", _side(number), "MLO") for number in numbers
        ),
        report=render(name, density, sides) if described else None,
        labels=Labels(density=density, suspicious=suspicious or None),
    )


def _side(number: int) -> Laterality:
    return "R" if number % 2 else "L"


def _films(folder: Path) -> dict[int, Path]:
    """Return film files by number; PNG takes precedence over PGM."""
    return {
        int(match[1]): path
        for suffix in (".pgm", ".png")
        for path in folder.glob(f"*{suffix}")
        if (match := FILM.fullmatch(path.stem))
    }


def _read_table(path: Path) -> dict[int, Film]:
    if not path.is_file():
        return {}
    table: dict[int, Film] = {}
    for line, text in enumerate(path.read_text("utf-8", "replace").splitlines(), 1):
        if cells := text.split():
            number, density, finding = _row(cells, f"{path}, line {line}")
            film = table.setdefault(number, Film(density, []))
            if film.density != density:
                raise DataError(
                    "the tissue differs from an earlier row of the same film",
                    where=f"{path}, line {line}, column 'tissue'",
                    fix="Use the same tissue in all rows of a film",
                )
            if finding:
                film.findings.append(finding)
    return table


def _row(cells: list[str], where: str) -> tuple[int, str, Finding | None]:
    film, tissue, kind, severity = (*cells, "", "", "")[:4]
    match = FILM.fullmatch(film)
    if not match:
        raise DataError("not a film name", where=f"{where}, column 'film'", fix="Use mdbNNN")
    _check(tissue, DENSITY, where, "tissue")
    _check(kind, (*FINDINGS, "NORM"), where, "class")
    if kind == "NORM":
        return int(match[1]), tissue, None
    _check(severity, ("B", "M"), where, "severity")
    return int(match[1]), tissue, Finding(kind, severity == "M")


def _check(value: str, allowed: Iterable[str], where: str, column: str) -> None:
    choices = tuple(allowed)
    if value not in choices:
        fix = f"Use one of {', '.join(choices)}"
        raise DataError("unknown or missing code", where=f"{where}, column '{column}'", fix=fix)
