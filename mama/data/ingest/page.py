"""Page of an ingest, for the site's staff: counts, reasons by file, and pictures to look at."""

import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy import ndimage

from mama.data.adapters.notes import Note
from mama.data.ingest.contents import Counts, place_of
from mama.data.ingest.report import PAGE, IngestReport
from mama.data.picture import data_url, read_picture
from mama.data.studies import Image as Stored
from mama.system.files import write_text
from mama.system.pages import render

TEMPLATE = Path(__file__).with_name("ingest_report.html.j2")
SHOWN = 12  # pictures of the sample, and of the remarks
LISTED = 200  # files a reason; the JSON file has all
# Remarks that a look at the image can settle; others are about reports, tables and whole studies.
ODD = {
    "chest-wall-conflict",
    "lut-ignored",
    "no-side",
    "no-view",
    "padding-ignored",
    "same-picture",
    "side-conflict",
    "similar-picture",
    "view-conflict",
    "window-ignored",
}
BARS = 8  # values of a count; the rest is one bar
SIDE = 220  # pixels of a thumbnail's longer side
OUTLINE = (255, 180, 0)


class Thumbnail(NamedTuple):
    """A picture of the page.

    Attributes:
        where: path of its file relative to the source.
        place: side and view.
        code: of the remark on it, or empty.
        url: the picture itself.
    """

    where: str
    place: str
    code: str
    url: str


def write_page(
    out: Path, report: IngestReport, pictures: Path, places: Mapping[str, Stored]
) -> None:
    """Write the page into the dataset's folder.

    Args:
        out: folder of the dataset.
        report: the ingest's result.
        pictures: folder of the image cache.
        places: the dataset's images by path of their file.
    """
    odd = _one_each(n for n in report.notes if n.code in ODD and n.where in places)
    groups = [*report.left_out(), *report.remarked()]
    groups.sort(key=lambda group: -len(group.places))
    page = render(
        TEMPLATE,
        top=_top,
        report=report,
        made=time.strftime("%Y-%m-%d %H:%M"),
        to_do=[group for group in groups if not group.expected],
        expected=[group for group in groups if group.expected],
        sample=_thumbnails(_sample(places), places, pictures),
        odd=_thumbnails(odd, places, pictures),
        listed=LISTED,
    )
    write_text(out / PAGE, page)


def _top(counts: Counts) -> Counts:
    """Return the largest counts in order, and the rest as one."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[BARS:])
    return dict(ordered[:BARS]) | ({"others": rest} if rest else {})


def _sample(places: Mapping[str, Stored]) -> list[Note]:
    """Return images in the order of their keyed ids, which is as good as random and repeatable."""
    chosen = sorted(places.items(), key=lambda item: item[1].id)[:SHOWN]
    return [Note("", where) for where, _ in chosen]


def _one_each(notes: Iterable[Note]) -> list[Note]:
    """Return the first images of each remark in turn."""
    by_code: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        by_code[note.code].append(note)
    turns = [
        note for turn in range(SHOWN) for found in by_code.values() for note in found[turn:][:1]
    ]
    return turns[:SHOWN]


def _thumbnails(notes: list[Note], places: Mapping[str, Stored], pictures: Path) -> list[Thumbnail]:
    found = []
    for note in notes:
        where, image = note.where, places[note.where]
        try:
            pixels = read_picture(pictures / f"{image.id}.npy")
        except (OSError, ValueError):
            continue
        found.append(Thumbnail(where, place_of(image), note.code, _outlined(pixels)))
    return found


def _outlined(pixels: np.ndarray) -> str:
    """Return a picture with its mask's outline as a data URL."""
    scale = SIDE / max(pixels.shape)
    size = (max(1, round(pixels.shape[1] * scale)), max(1, round(pixels.shape[0] * scale)))
    small = np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR))
    mask = np.pad(small > 0, 1)
    edge = (mask & ~ndimage.binary_erosion(mask))[1:-1, 1:-1]
    colours = np.repeat(small[..., None], 3, axis=2)
    colours[edge] = OUTLINE
    return data_url(Image.fromarray(colours), "jpeg")
