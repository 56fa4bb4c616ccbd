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
    for name in _names(site.data.withdrawn):
        gone |= ids_of(site.read_secret(), name)
    kept = tuple(
        study
        for study in dataset.manifest.studies
        if study.patient not in gone and study.id not in gone
    )
    dataset.manifest = dataset.manifest.model_copy(update={"studies": kept})
    return dataset


def _names(path: Path) -> list[str]:
    """The file's lines; empty ones and those that start with # say nothing."""
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"the list of withdrawn patients cannot be read ({type(error).__name__})",
            where=str(path),
            fix="Mend it; an empty file withdraws nobody",
        ) from None
    names = (line.strip() for line in lines)
    return [name for name in names if name and not name.startswith("#")]
