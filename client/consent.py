"""Withdrawn consent: patients and studies that the hospital lists are left out from the next task on.

What was learned from them before stays in the models that were sent; that cannot be undone.
"""

from pathlib import Path

from client.sitefile import SiteFile
from mama.data.ingest import ids_of
from mama.data.manifest import Dataset
from mama.errors import ConfigError


def dataset_of(site: SiteFile) -> Dataset:
    """The site's dataset without what was withdrawn. The list is read anew each time.

    Raises:
        DataError: there is no dataset.
        ConfigError: the list cannot be read; then nothing is done, since it is not known who must be left out.
    """
    dataset = Dataset(site.data.dataset)
    if site.data.withdrawn is None:
        return dataset
    gone: set[str] = set()
    for name in _names(site.data.withdrawn).values():
        gone |= ids_of(site.read_secret(), name)
    kept = tuple(
        study
        for study in dataset.manifest.studies
        if study.patient not in gone and study.id not in gone
    )
    dataset.manifest = dataset.manifest.model_copy(update={"studies": kept})
    return dataset


def unknown_lines(site: SiteFile) -> list[int]:
    """The lines of the list, counted from 1, that name nobody and nothing in the dataset: perhaps typing errors.

    Raises:
        DataError, ConfigError: as `dataset_of`.
    """
    if site.data.withdrawn is None:
        return []
    studies = Dataset(site.data.dataset).manifest.studies
    known = {study.patient for study in studies} | {study.id for study in studies}
    names = _names(site.data.withdrawn).items()
    return [line for line, name in names if known.isdisjoint(ids_of(site.read_secret(), name))]


def _names(path: Path) -> dict[int, str]:
    """The file's names by line, counted from 1; empty lines and those that start with # say nothing."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the list of withdrawn patients cannot be read ({type(error).__name__})",
            where=str(path),
            fix="Mend it; an empty file withdraws nobody",
        ) from None
    names = {number: line.strip() for number, line in enumerate(lines, start=1)}
    return {line: name for line, name in names.items() if name and not name.startswith("#")}
