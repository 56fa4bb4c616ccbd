"""Page of an ingest, for the site's staff: counts, reasons by file, and pictures to look at."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from mama.data.adapters.notes import Note
from mama.data.ingest.report import PAGE, IngestReport, meaning
from mama.data.picture import data_url, read_picture
from mama.system.files import write_text
from mama.system.pages import render

TEMPLATE = Path(__file__).with_name("ingest_report.html.j2")
SHOWN = 12  # pictures of the sample, and of the remarks
LISTED = 200  # files a reason; the JSON file has all
SIDE = 220  # pixels of a thumbnail's longer side
OUTLINE = (255, 180, 0)


def write_page(out: Path, report: IngestReport, pictures: Path, places: dict[str, str]) -> None:
    """Write the page into the dataset's folder.

    Args:
        out: folder of the dataset.
        report: the ingest's result.
        pictures: folder of the image cache.
        places: ids of the dataset's images by path of their file.
    """
    odd = [note for note in report.notes if note.where in places]
    page = render(
        TEMPLATE,
        report=report,
        groups=_groups(report),
        sample=_thumbnails(_sample(places), pictures),
        odd=_thumbnails(_one_each(odd, places), pictures),
        listed=LISTED,
    )
    write_text(out / PAGE, page)


def _groups(report: IngestReport) -> list[tuple[str, tuple[str, str], list[str]]]:
    """Return reasons and remarks with their meaning and their places, the most frequent first."""
    places: dict[str, list[str]] = defaultdict(list)
    for skipped in report.skipped:
        places[skipped.reason].append(skipped.file)
    for note in report.notes:
        places[note.code].append(note.where)
    ordered = sorted(places.items(), key=lambda item: (-len(item[1]), item[0]))
    return [(code, meaning(code), where) for code, where in ordered]


def _sample(places: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return images in the order of their keyed ids, which is as good as random and repeatable."""
    chosen = sorted(places.items(), key=lambda item: item[1])[:SHOWN]
    return [(where, id, "") for where, id in chosen]


def _one_each(notes: Iterable[Note], places: dict[str, str]) -> list[tuple[str, str, str]]:
    """Return the first images of each remark in turn."""
    by_code: dict[str, list[Note]] = defaultdict(list)
    for note in notes:
        by_code[note.code].append(note)
    turns = [
        note for turn in range(SHOWN) for found in by_code.values() for note in found[turn:][:1]
    ]
    return [(note.where, places[note.where], note.code) for note in turns[:SHOWN]]


def _thumbnails(images: list[tuple[str, str, str]], pictures: Path) -> list[tuple[str, str, str]]:
    found = []
    for where, id, code in images:
        try:
            pixels = read_picture(pictures / f"{id}.npy")
        except (OSError, ValueError):
            continue
        found.append((where, code, _outlined(pixels)))
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
    return data_url(Image.fromarray(colours))
