"""Adapters for public sets of mammograms, as their authors publish them."""

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
from mama.data.adapters.raw import Adapter

PUBLIC: dict[str, Adapter] = {
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
