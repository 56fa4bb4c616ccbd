"""Ingest a site's data as its site file says."""

from collections.abc import Callable

from client.sitefile import SiteFile
from mama.data.ingest import IngestReport, ingest


def prepare(
    site: SiteFile, long_side: int, progress: Callable[[int, int], None] | None = None
) -> IngestReport:
    """Bring manifest and image cache up to date; what is cached and unchanged is not read again.

    Args:
        long_side: longest side of the cached breasts in pixels; the larger side of the experiment's image size.
    """
    return ingest(
        site.data.source,
        site.data.dataset,
        adapter=site.data.adapter,
        secret=site.secret,
        long_side=long_side,
        test_fraction=site.data.test_fraction,
        workers=site.data.workers,
        progress=progress,
    )
