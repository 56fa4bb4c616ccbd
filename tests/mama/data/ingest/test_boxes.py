"""Boxes, pathology and licence of a public set: in the manifest, the report and the audit."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pictures

from mama.cli import main
from mama.data.adapters.raw import RawBox
from mama.data.ingest.boxes import in_picture
from mama.data.ingest.cache import Cached
from mama.data.ingest.run import ingest
from mama.data.manifest import Dataset
from mama.data.studies import Box

ENTRY = Cached("i", "", height=50, width=40, size=1, box=(10, 20, 110, 100))  # half the size


def test_a_box_follows_the_crop() -> None:
    found, outside = in_picture([RawBox(30, 30, 50, 60, "mass")], ENTRY)
    assert (found, outside) == ((Box(x0=5, y0=10, x1=15, y1=25, label="mass"),), 0)


def test_a_mirrored_box_counts_from_the_chest_wall() -> None:
    entry = Cached("i", "", height=50, width=40, size=1, box=(10, 20, 110, 100), mirrored=True)
    found, _ = in_picture([RawBox(30, 30, 50, 60, "mass")], entry)
    assert found == (Box(x0=25, y0=10, x1=35, y1=25, label="mass"),)


def test_a_box_is_cut_to_the_crop_or_left_out() -> None:
    boxes = [RawBox(0, 0, 30, 30, "cut"), RawBox(0, 0, 20, 10, "out"), RawBox(100, 0, 120, 60, "r")]
    found, outside = in_picture(boxes, ENTRY)
    assert (found, outside) == ((Box(x0=0, y0=0, x1=5, y1=10, label="cut"),), 2)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A left and a right breast, each with a bright square, on black film."""
    folder = tmp_path / "source"
    folder.mkdir()
    rows = ["file,patient,laterality,view,cancer,findings,x0,y0,x1,y1"]
    for name, side in (("l", "L"), ("r", "R")):
        pixels = np.zeros((160, 120), np.uint8)
        pixels[20:140, 0:70] = 90
        pixels[60:80, 30:50] = 250
        box = (30, 60, 50, 80)
        if side == "R":
            pixels, box = pixels[:, ::-1].copy(), (70, 60, 90, 80)
            pixels[100:130, 60:110] = 60  # another picture
        Pictures.fromarray(pixels).save(folder / f"{name}.png")
        rows.append(
            f"{name}.png,p{name},{side},CC,{int(side == 'R')},mass,{','.join(map(str, box))}"
        )
    rows.append("l.png,pl,L,CC,0,mass,100,0,110,10")
    (folder / "table.csv").write_text("\n".join(rows) + "\n")
    (folder / "image_table.yaml").write_text(
        "table: table.csv\nshare_weights: false\ncolumns: {"
        + ", ".join(f"{name}: {name}" for name in rows[0].split(","))
        + "}\n"
    )
    return folder


def test_the_manifest_holds_what_the_set_marks(
    source: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    out = tmp_path / "out"
    options: dict[str, Any] = {"adapter": "image_table", "secret": b"key", "long_side": 96}
    report = ingest(source, out, **options)
    dataset = Dataset(out)
    for study in dataset.manifest.studies:
        (image,) = study.images
        (box,) = image.boxes
        pixels = dataset.pixels(image)
        inside = np.zeros(pixels.shape, bool)
        inside[round(box.y0) + 1 : round(box.y1) - 1, round(box.x0) + 1 : round(box.x1) - 1] = True
        assert pixels[inside].min() > 200  # the bright square
        assert (pixels > 200)[~inside].mean() < 0.05
        assert study.labels.cancer == {image.laterality: image.laterality == "R"}
    assert [note.code for note in report.notes] == ["box-outside"]
    marked = "pathology of breasts: cancer (1), no cancer (1); boxes: mass (2)"
    assert any(line.endswith(marked) for line in report.lines(out))
    ended = command(main, "audit", out)
    assert marked in ended.out
    assert "licence: weights trained on this data may not be shared" in ended.out


@pytest.mark.parametrize(("given", "kept"), [(None, False), (True, True), (False, False)])
def test_the_licence_is_the_adapters_unless_it_is_given(
    source: Path, tmp_path: Path, given: bool | None, kept: bool
) -> None:
    ingest(
        source, tmp_path / "out", adapter="image_table", secret=b"key", long_side=32,
        share_weights=given,
    )  # fmt: skip
    assert Dataset(tmp_path / "out").manifest.share_weights is kept
