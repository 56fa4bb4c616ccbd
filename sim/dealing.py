"""Deal the patients of one public dataset to several simulated hospitals."""

import os
from pathlib import Path

from mama.data.adapters.mias import patient_number
from mama.errors import DataError
from mama.files import write_text
from mama.seeds import numpy_generator


def deal_mias(data: Path, folder: Path, sites: int, seed: int) -> list[str]:
    """Give each site below `folder` links to its patients' films and their rows of the label table.

    Consecutive odd and even films are the breasts of one patient and stay together.

    Returns:
        The sites' names.

    Raises:
        DataError: no films, or no label table.
    """
    films = sorted((data / "png").glob("mdb*.png"))
    if not films:
        raise DataError(
            "no films (png/mdb*.png) here",
            where=str(data),
            fix="Give the mini-MIAS folder as --data",
        )
    try:
        rows = (data / "labels").read_text().splitlines()
    except OSError:
        raise DataError(
            "no label table here", where=str(data / "labels"), fix="Put it there"
        ) from None
    patients = sorted({_patient(film.stem) for film in films})
    order = numpy_generator(seed, "deal").permutation(len(patients))
    owner = {patients[p]: place % sites for place, p in enumerate(order)}
    names = [f"site-{number + 1}" for number in range(sites)]
    for number, name in enumerate(names):
        home = folder / name / "png"
        home.mkdir(parents=True, exist_ok=True)
        mine = [film for film in films if owner[_patient(film.stem)] == number]
        stems = {film.stem for film in mine}
        for film in mine:
            link = home / film.name
            if not link.exists():
                os.symlink(film.resolve(), link)
        write_text(
            folder / name / "labels",
            "\n".join(row for row in rows if row.split(" ")[0] in stems) + "\n",
        )
    return names


def _patient(stem: str) -> int:
    return patient_number(int(stem.removeprefix("mdb")))
