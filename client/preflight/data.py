"""The dataset: ingested, fresh, readable, with reports and labels."""

from collections.abc import Iterator
from pathlib import Path

from client.consent import dataset_of, ingested, withdrawal_of
from client.preflight.check import Check, fail, ok, warn
from client.sitefile import SiteFile

# Cached images read as a sample.
SAMPLE = 20


def check_data(site: SiteFile) -> Iterator[Check]:
    """What ingest made of the hospital's data.

    Raises:
        DataError: there is no dataset, its key is not the site's, or an image of it is damaged.
        ConfigError: the list of those who withdrew cannot be read.
    """
    if site.data.withdrawn is not None:
        yield _withdrawn(site)
    dataset = dataset_of(site)
    train, test = dataset.studies("train"), dataset.studies("test")
    found = f"{len(train)} studies to train on, {len(test)} to test on"
    if not train:
        yield fail("studies", found, "Check `data.source` and the remarks of `mama-site ingest`")
    else:
        yield ok("studies", found)
    for study in train[:SAMPLE]:
        for image in study.images:
            dataset.pixels(image)
    yield ok("images", f"{min(SAMPLE, len(train))} studies' images can be read")
    yield _fresh(site)
    empty = sum(not study.sentences for study in train)
    if empty == len(train):
        yield fail("reports", "all are empty", "Check the report table's columns study and report")
    elif empty:
        yield warn("reports", f"{empty} of {len(train)} are empty", "They train the images only")
    else:
        yield ok("reports", "every study has sentences")
    labelled = {
        "density": sum(study.labels.density is not None for study in test),
        "suspicious": sum(study.labels.suspicious is not None for study in test),
    }
    missing = [name for name, count in labelled.items() if not count]
    counts = ", ".join(f"{name} of {count} test studies" for name, count in labelled.items())
    if missing:
        yield warn("labels", counts, f"Without {' and '.join(missing)} the site evaluates less")
    else:
        yield ok("labels", counts)


def _withdrawn(site: SiteFile) -> Check:
    """How many studies the list leaves out, and whether each of its lines names somebody."""
    withdrawal = withdrawal_of(site)
    found = f"{site.data.withdrawn}: {withdrawal}"
    if withdrawal.unknown:
        fix = "Compare the spelling with the source's; a line may also be of a patient who is gone"
        return warn("withdrawn", found, fix)
    return ok("withdrawn", found)


def _fresh(site: SiteFile) -> Check:
    """Whether the source has changed since it was ingested, by its two upper levels' times."""
    read = ingested(site).stat().st_mtime
    source = site.data.source
    if not source.is_dir():
        return warn("source", f"{source} is not there", "Mount it before the next ingest")
    newest = max((_changed(p) for p in (source, *source.glob("*"), *source.glob("*/*"))), default=0)
    if newest > read:
        return warn("source", "it has changed since it was ingested", "Run `mama-site ingest`")
    return ok("source", "unchanged since it was ingested")


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
