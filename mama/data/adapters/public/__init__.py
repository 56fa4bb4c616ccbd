"""Adapters for public sets of mammograms, as their authors publish them."""

from dataclasses import replace
from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.public import (
    cbis_ddsm,
    cdd_cesm,
    csaw_cc,
    dmid,
    embed,
    image_table,
    inbreast,
    rsna,
    vindr,
)
from mama.data.adapters.public.files import unlisted
from mama.data.adapters.raw import Adapter, RawDataset
from mama.data.dicom.headers import ReadHeaders, read_headers
from mama.errors import DataError


def _naming_gaps(read: Adapter) -> Adapter:
    """Return an adapter that names what of the folder cannot be listed."""

    def whole(
        source: Path, config: IngestConfig = DEFAULTS, headers: ReadHeaders = read_headers, /
    ) -> RawDataset:
        gaps = unlisted(source)
        try:
            raw = read(source, config, headers)
        except DataError:
            if gaps:
                raise DataError(
                    f"{len(gaps)} folders below it cannot be read",
                    where=str(source),
                    fix=f"Give this user read permission, as on {gaps[0].file}",
                ) from None
            raise
        return replace(raw, skipped=(*raw.skipped, *sorted({*gaps} - {*raw.skipped})))

    return whole


_READERS: dict[str, Adapter] = {
    "cbis_ddsm": cbis_ddsm.read,
    "cdd_cesm": cdd_cesm.read,
    "csaw_cc": csaw_cc.read,
    "dmid": dmid.read,
    "embed": embed.read,
    "image_table": image_table.read,
    "inbreast": inbreast.read,
    "rsna": rsna.read,
    "vindr": vindr.read,
}
PUBLIC = {name: _naming_gaps(read) for name, read in _READERS.items()}
