"""The films of mini-MIAS (Suckling et al. 1994): `png/mdbNNN.png` or `.pgm` and a table `labels`.

Consecutive odd and even numbers are the two breasts of one patient, always MLO. Which of them is
the left is not known for certain: odd is called right and even left, as names of the pair only.

A row of `labels` is one finding: film, tissue (F, G, D), class, severity (B, M), and the position,
which is not used. There are no reports; they are rendered from the table. Films that the table does
not mention have neither report nor labels.
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from mama.data.adapters.mias_wording import DENSITY, FINDINGS, Finding, render
from mama.data.adapters.raw import RawDataset, RawImage, RawStudy
from mama.data.studies import Labels, Laterality
from mama.errors import DataError

TABLE = "labels"
FILM = re.compile(r"mdb(\d{3})")


class Film(NamedTuple):
    """What the table says of one film."""

    density: str
    findings: list[Finding]


def read(source: Path) -> RawDataset:
    """Read the films and the label table of a folder.

    Raises:
        DataError: an unknown code or a contradiction in the table, by line number.
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
    """The patient of a film number: 1 and 2 are patient 1."""
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
    """Film files by number; PNG before PGM where both are there."""
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
                    "tissue differs from an earlier row of the film",
                    where=f"{path}, line {line}, column 'tissue'",
                    fix="Give a film one tissue",
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
        fix = f"Use {', '.join(choices)}"
        raise DataError("unknown or missing code", where=f"{where}, column '{column}'", fix=fix)
