"""Withdrawn consent: patients and studies that the hospital lists are left out from the next task on.

What was learned from them before stays in the models that were sent; that cannot be undone. A site's dataset is opened
here and nowhere else, so that nothing reads past the list.
"""

import logging
from pathlib import Path
from typing import NamedTuple

from client.sitefile import SiteFile
from mama.data.ingest import ids_of
from mama.data.manifest import MANIFEST, Dataset
from mama.errors import ConfigError

logger = logging.getLogger("fedmama.client")
COMMENT = "#"
# So many line numbers are listed.
SHOWN = 10


class Withdrawal(NamedTuple):
    """The number of studies that the list leaves out, and its lines, from 1, that match nothing."""

    studies: int
    unknown: list[int]

    def __str__(self) -> str:
        if not self.unknown:
            return f"{self.studies} studies are left out"
        lines = ", ".join(map(str, self.unknown[:SHOWN])) + (", ..." * (len(self.unknown) > SHOWN))
        return f"{self.studies} studies are left out; nobody is named by {len(self.unknown)} lines: {lines}"


def dataset_of(site: SiteFile) -> Dataset:
    """The site's dataset without what was withdrawn. The list is read anew each time.

    Raises:
        DataError: there is no dataset, or its ids were not made under the site's key.
        ConfigError: the list cannot be read; then nothing is done, since it is not known who must be left out.
    """
    dataset, withdrawal = _opened(site)
    if withdrawal.unknown:
        # Never the names: logs are shown to more people than the list is.
        logger.warning("site %s: withdrawn patients: %s", site.site, withdrawal)
    return dataset


def withdrawal_of(site: SiteFile) -> Withdrawal:
    """The effect of the list of withdrawn patients on the dataset.

    Raises:
        DataError, ConfigError: as `dataset_of`.
    """
    return _opened(site)[1]


def ingested(site: SiteFile) -> Path:
    """The file that ingest writes last, in whose place nothing is read: for its time and its checksum."""
    return site.data.dataset / MANIFEST


def require_own_key(site: SiteFile) -> None:
    """Refuse another key than the one that made the ids of the site's dataset, if there is a dataset.

    Raises:
        DataError: the key is another, or cannot be read.
    """
    if ingested(site).exists():
        Dataset(site.data.dataset).require_key(site.read_secret())


def _opened(site: SiteFile) -> tuple[Dataset, Withdrawal]:
    dataset, key = Dataset(site.data.dataset), site.read_secret()
    dataset.require_key(key)
    if site.data.withdrawn is None:
        return dataset, Withdrawal(0, [])
    whole = dataset.manifest.studies
    known = {study.patient for study in whole} | {study.id for study in whole}
    gone: set[str] = set()
    unknown = []
    for line, name in _names(site.data.withdrawn).items():
        found = known & ids_of(key, name)
        # Some sources' names begin like a comment. One that names somebody is no comment.
        if not found and not name.startswith(COMMENT):
            unknown.append(line)
        gone |= found
    kept = tuple(study for study in whole if study.patient not in gone and study.id not in gone)
    dataset.manifest = dataset.manifest.model_copy(update={"studies": kept})
    return dataset, Withdrawal(len(whole) - len(kept), unknown)


def _names(path: Path) -> dict[int, str]:
    """The file's lines that are not empty, by number from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError  # UTF-16, in which every name would be another
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the list of withdrawn patients cannot be read ({type(error).__name__})",
            where=str(path),
            fix="It must be a text file in UTF-8; an empty one withdraws nobody",
        ) from None
    lines = {number: line.strip() for number, line in enumerate(text.splitlines(), start=1)}
    return {number: name for number, name in lines.items() if name}
