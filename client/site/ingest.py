"""Ingest of a site's data with the settings of its site file."""

from client.site.config import SiteFile
from client.site.dataset import withdrawn_names
from mama.data.adapters.dicom_folder import images_folder
from mama.data.ingest.report import IngestReport
from mama.data.ingest.run import Progress, ingest, untold
from mama.data.pacs import Pulled, pull
from mama.errors import ConfigError


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

    Raises:
        ConfigError: the list of those who withdrew cannot be read, or as `mama.data.ingest.run`.
        DataError, ServiceError: as `mama.data.ingest.run`.
    """
    withdrawn_names(site)  # a list that cannot be read must not be found out after the work
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


def pull_studies(site: SiteFile, progress: Progress = untold) -> Pulled | None:
    """Bring new and changed studies of the site's archive into its source; None if it has none.

    Patients and studies that withdrew are not pulled.

    Raises:
        ConfigError: the adapter reads no DICOM files, or the list of those who withdrew, the
            credentials or the certificate cannot be read.
        ServiceError, DataError, StorageError: as `mama.data.pacs.pull`.
    """
    if site.data.pacs is None:
        return None
    if site.data.adapter != "dicom_folder":
        raise ConfigError(
            f"adapter {site.data.adapter} does not read what is pulled",
            where="data.pacs",
            fix="Set data.adapter to dicom_folder, or remove data.pacs",
        )
    return pull(
        site.data.pacs,
        images_folder(site.data.source),
        withdrawn=withdrawn_names(site),
        progress=progress,
    )
