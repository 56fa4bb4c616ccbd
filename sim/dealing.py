"""Split the patients of one public dataset among several simulated hospitals."""

import hashlib
import json
import os
import shutil
from pathlib import Path

from mama.data.adapters.mias import FILM, patient_number, read
from mama.errors import DataError
from mama.system.files import private_folder, write_json, write_text
from mama.system.seeds import numpy_generator


def deal_mias(data: Path, folder: Path, sites: int, seed: int) -> list[str]:
    """Give each site below `folder` links to its patients' films and its rows of the label table.

    Films with consecutive odd and even numbers are the breasts of one patient and stay together.

    Returns:
        The names of the sites.

    Raises:
        DataError: no films, no label table, or an unknown code in it.
    """
    if not data.is_dir():
        raise DataError("no such folder", where=f"--data {data}", fix="Check the path of the data")
    films = sorted(path for path in (data / "png").glob("*.png") if FILM.fullmatch(path.stem))
    if not films:
        raise DataError(
            "contains no films (png/mdb*.png)",
            where=str(data),
            fix="Give the mini-MIAS folder as --data",
        )
    try:
        rows = (data / "labels").read_text("utf-8", "replace").splitlines()
    except OSError:
        raise DataError(
            "the label table is missing", where=str(data / "labels"), fix="Put it there"
        ) from None
    digest = hashlib.sha256("\n".join([*(film.name for film in films), *rows]).encode()).hexdigest()
    claim = folder.with_suffix(".json")
    if claim.exists() and claim.read_bytes() != json.dumps(digest).encode() + b"\n":
        # A model may have trained on films that would now be test films.
        raise DataError(
            "was created from another dataset", where=str(folder), fix="Give another --out"
        )
    read(data)  # reports errors in the original table instead of a site's part of it
    patients = sorted({_patient(film.stem) for film in films})
    order = numpy_generator(seed, "deal").permutation(len(patients))
    owner = {patients[p]: place % sites for place, p in enumerate(order)}
    names = [f"site-{number + 1}" for number in range(sites)]
    for number, name in enumerate(names):
        home = folder / name / "png"
        # Links of an earlier split would put a patient at two sites.
        shutil.rmtree(home, ignore_errors=True)
        private_folder(home)
        mine = [film for film in films if owner[_patient(film.stem)] == number]
        stems = {film.stem for film in mine}
        for film in mine:
            os.symlink(film.resolve(), home / film.name)
        write_text(
            folder / name / "labels",
            "\n".join(row for row in rows if row.split()[:1] and row.split()[0] in stems) + "\n",
        )
    write_json(claim, digest)
    return names


def _patient(stem: str) -> int:
    return patient_number(int(stem.removeprefix("mdb")))
