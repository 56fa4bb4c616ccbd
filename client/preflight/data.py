"""Checks of the dataset: ingested, up to date, readable, with reports and labels."""

from collections.abc import Iterator
from pathlib import Path

from client.preflight.check import Check, fail, ok, warn
from client.site.config import SiteFile
from client.site.dataset import dataset_of, ingested, may_share_weights, withdrawal_of

# Number of studies whose cached images are read.
SAMPLE = 20


def check_data(site: SiteFile) -> Iterator[Check]:
    """Check the ingested dataset.

    Raises:
        DataError: there is no dataset, its key is not the site's, or one of its images is damaged.
        ConfigError: the list of withdrawn patients cannot be read.
    """
    if site.data.withdrawn is not None:
        yield _withdrawn(site)
    dataset = dataset_of(site)
    train, test = dataset.studies("train"), dataset.studies("test")
    found = f"{len(train)} training studies, {len(test)} test studies"
    if not train:
        yield fail("studies", found, "Check `data.source` and the remarks of `mama-site ingest`")
    else:
        yield ok("studies", found)
    for study in train[:SAMPLE]:
        for image in study.images:
            dataset.pixels(image)
    yield ok("images", f"images of {min(SAMPLE, len(train))} studies are readable")
    yield _fresh(site)
    if not may_share_weights(site):
        yield _licensed(site)
    empty = sum(not study.sentences for study in train)
    if empty == len(train):
        fix = "Check the columns `study` and `report` of the report table"
        yield fail("reports", "all reports are empty", fix)
    elif empty:
        found = f"{empty} of {len(train)} reports are empty"
        yield warn("reports", found, "These studies train the image tower only")
    else:
        yield ok("reports", "every training study has a report")
    labelled = {
        "density": sum(study.labels.density is not None for study in test),
        "suspicious": sum(study.labels.suspicious is not None for study in test),
    }
    missing = [name for name, count in labelled.items() if not count]
    counts = ", ".join(f"{name} known for {count} test studies" for name, count in labelled.items())
    if missing:
        fix = f"The site returns no evaluation of {' and '.join(missing)}; add the labels"
        yield warn("labels", counts, fix)
    else:
        yield ok("labels", counts)


def _withdrawn(site: SiteFile) -> Check:
    """Check the withdrawal list: studies excluded, and lines that match no patient or study."""
    withdrawal = withdrawal_of(site)
    found = f"{site.data.withdrawn}: {withdrawal}"
    if withdrawal.unknown:
        fix = "Compare them with the source's spelling; ignore them if the patient was removed"
        return warn("withdrawn", found, fix)
    return ok("withdrawn", found)


def _licensed(site: SiteFile) -> Check:
    """Say what the licence of the data demands of an experiment."""
    found = "the data's licence lets no weights trained on it be shared"
    if site.policy.share_licensed_weights:
        fix = "policy.share_licensed_weights lets updates leave: the licensor must have agreed"
        return warn("licence", found, fix)
    return ok("licence", f"{found}: only experiments with secure aggregation are accepted")


def _fresh(site: SiteFile) -> Check:
    """Check by the times of its two upper levels if the source has changed since the ingest."""
    read = ingested(site).stat().st_mtime
    source = site.data.source
    if not source.is_dir():
        return warn("source", f"{source} does not exist", "Mount it before the next ingest")
    newest = max((_changed(p) for p in (source, *source.glob("*"), *source.glob("*/*"))), default=0)
    if newest > read:
        return warn("source", "changed since the last ingest", "Run `mama-site ingest`")
    return ok("source", "unchanged since the last ingest")


def _changed(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
