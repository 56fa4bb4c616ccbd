"""Ingest of a site's data with the settings of its site file."""

from client.site.config import SiteFile
from mama.data.ingest.report import IngestReport
from mama.data.ingest.run import Progress, ingest, untold


def prepare(
    site: SiteFile,
    long_side: int,
    progress: Progress = untold,
    *,
    prune: bool = False,
) -> IngestReport:
    """Bring the manifest and image cache up to date; cached, unchanged images are not read again.

    Args:
        site: the site's settings.
        long_side: longest side of the cached breasts in pixels; the larger side of the experiment's
            image size.
        progress: called with a stage, the files done and their total.
        prune: remove studies that are no longer in the source however many they are.
    """
    return ingest(
        site.data.source,
        site.data.dataset,
        adapter=site.data.adapter,
        secret=site.secret,
        config=site.data.ingest,
        long_side=long_side,
        test_fraction=site.data.test_fraction,
        workers=site.data.workers,
        share_weights=site.data.licence.share_weights,
        prune=prune,
        progress=progress,
    )
