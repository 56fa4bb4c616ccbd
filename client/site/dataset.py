"""The site's dataset without the patients and studies that withdrew consent.

The hospital's list takes effect with the next task. Models that were sent earlier keep what they
learned from withdrawn patients; that cannot be undone. The dataset is opened only in this module,
so that nothing bypasses the list.
"""

import logging
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from client.site.config import SiteFile
from mama.data.ingest.ids import ids_of
from mama.data.manifest import MANIFEST, Dataset
from mama.errors import ConfigError
from mama.system.formats import counted

logger = logging.getLogger("fedmama.client")
COMMENT = "#"
# Largest number of line numbers that a message lists.
SHOWN = 10


class Withdrawal(NamedTuple):
    """Number of excluded studies, and numbers (from 1) of the list's lines that match nothing."""

    studies: int
    unknown: list[int]

    def __str__(self) -> str:
        excluded = f"{counted(self.studies, 'study', 'studies')} excluded"
        if not self.unknown:
            return excluded
        lines = ", ".join(map(str, self.unknown[:SHOWN])) + (", ..." * (len(self.unknown) > SHOWN))
        count = counted(len(self.unknown), "line")
        return f"{excluded}; {count} without a match in the dataset: {lines}"


def dataset_of(site: SiteFile) -> Dataset:
    """Return the site's dataset without withdrawn studies; the list is read again on each call.

    Raises:
        DataError: there is no dataset, or its ids were not made with the site's key.
        ConfigError: the list cannot be read, so that it is not known who must be excluded.
    """
    dataset, withdrawal = _opened(site)
    if withdrawal.unknown:
        # Never log the names: more people read logs than the list.
        logger.warning("site %s: withdrawn patients: %s", site.site, withdrawal)
    return dataset


def withdrawal_of(site: SiteFile) -> Withdrawal:
    """Return the effect of the list of withdrawn patients on the dataset.

    Raises:
        DataError, ConfigError: as `dataset_of`.
    """
    return _opened(site)[1]


def ingested(site: SiteFile) -> Path:
    """Return the path of the manifest, which ingest writes last; for its time and checksum only."""
    return site.data.dataset / MANIFEST


def may_share_weights(site: SiteFile) -> bool:
    """Return False if the licence of the site's data lets no weights trained on it be shared.

    The site file decides; if it says nothing, the preset of the adapter that read the data. Without
    a dataset there is nothing to share.

    Raises:
        DataError: the manifest is damaged.
    """
    if site.data.licence.share_weights is not None:
        return site.data.licence.share_weights
    manifest = ingested(site)
    return not manifest.exists() or _preset(manifest, manifest.stat().st_mtime_ns)


@lru_cache(maxsize=4)
def _preset(manifest: Path, changed: int) -> bool:
    """Return `share_weights` of a manifest, which is read again only once it has changed."""
    return Dataset(manifest.parent).manifest.share_weights


def require_own_key(site: SiteFile) -> None:
    """Check that an existing dataset's ids were made with the site's key.

    Raises:
        DataError: the key differs, or cannot be read.
    """
    if ingested(site).exists():
        Dataset(site.data.dataset).require_key(site.read_secret())


def withdrawn_names(site: SiteFile) -> set[str]:
    """Return the patients and studies of the site's list, as it names them.

    Raises:
        ConfigError: the list cannot be read.
    """
    return set(_names(site.data.withdrawn).values()) if site.data.withdrawn else set()


def _opened(site: SiteFile) -> tuple[Dataset, Withdrawal]:
    dataset, key = Dataset(site.data.dataset), site.read_secret()
    dataset.require_key(key)
    if site.data.withdrawn is None:
        return dataset, Withdrawal(0, [])
    whole = dataset.manifest.studies
    known = {*whole.patients, *whole.ids}
    gone: set[str] = set()
    unknown = []
    for line, name in _names(site.data.withdrawn).items():
        found = known & ids_of(key, name)
        # Some sources have names that begin like a comment; a line that matches is no comment.
        if not found and not name.startswith(COMMENT):
            unknown.append(line)
        gone |= found
    both = zip(whole.patients, whole.ids, strict=True)
    kept = whole[np.array([gone.isdisjoint(names) for names in both], bool)]
    dataset.manifest = dataset.manifest.model_copy(update={"studies": kept})
    return dataset, Withdrawal(len(whole) - len(kept), unknown)


def _names(path: Path) -> dict[int, str]:
    """Return the file's lines that are not empty, by number from 1."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        if "\0" in text:
            raise ValueError  # UTF-16, in which no name would match
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the list of withdrawn patients cannot be read ({type(error).__name__})",
            where=str(path),
            fix="Save it as a UTF-8 text file; an empty file withdraws nobody",
        ) from None
    lines = {number: line.strip() for number, line in enumerate(text.splitlines(), start=1)}
    return {number: name for number, name in lines.items() if name}
