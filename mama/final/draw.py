"""Picture of images with the heat maps of a report's sentences."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mama.final.card import NO_DEVICE
from mama.final.mammogram import Mammogram
from mama.final.show import PICTURE_SIDE, Heat
from mama.system.files import replacing

COLUMNS = 4
PANEL = (2.4, 3.5)  # inches
HEAT = (1.0, 0.2, 0.0)
OPACITY = 0.8  # of the hottest place
WRAP = 36  # characters


def draw(rows: Sequence[tuple[Mammogram, Sequence[Heat]]], out: Path) -> None:
    """Draw each image and its heat maps, as the image hangs in its file, into a PNG file.

    Each map is scaled by its own maximum; only what raises the similarity is coloured.
    """
    from matplotlib.figure import Figure

    panels: list[list[tuple[Mammogram, Heat | None]]] = []
    for mammogram, heats in rows:
        shown: list[tuple[Mammogram, Heat | None]] = [(mammogram, None)]
        shown += [(mammogram, heat) for heat in heats]
        panels += [shown[n : n + COLUMNS] for n in range(0, len(shown), COLUMNS)]
    columns = max(map(len, panels))
    width, height = PANEL[0] * columns, PANEL[1] * len(panels) + 0.3
    figure = Figure(figsize=(max(width, 5.5), height), facecolor="white", layout="constrained")
    figure.supxlabel(NO_DEVICE, fontsize=7, color="#555555")
    for axes, panel in zip(
        figure.subplots(len(panels), columns, squeeze=False), panels, strict=True
    ):
        for axis in axes:
            axis.set_axis_off()
        for axis, (mammogram, heat) in zip(axes, panel, strict=False):
            _panel(axis, mammogram, heat)
    with replacing(out) as temporary:
        figure.savefig(temporary, format="png", dpi=120)


def _panel(axis: Any, mammogram: Mammogram, heat: Heat | None) -> None:
    breast = mammogram.breast(PICTURE_SIDE)
    flip = slice(None, None, -1 if breast.mirrored else 1)
    axis.imshow(breast.pixels[:, flip], cmap="gray", vmin=0, vmax=255)
    if heat is None:
        axis.set_title(_name(mammogram), fontsize=8, loc="left")
        return
    positive = np.maximum(heat.values, 0) * (breast.pixels > 0)
    alpha = OPACITY * positive / max(float(positive.max()), np.finfo(np.float32).tiny)
    colour = np.broadcast_to(np.array(HEAT), (*alpha.shape, 3))
    axis.imshow(np.dstack([colour, alpha])[:, flip])
    title = textwrap.fill(heat.text, WRAP, max_lines=3, placeholder=" …")
    axis.set_title(f"{title}\ncosine {heat.cosine:.2f}", fontsize=7, loc="left")


def _name(mammogram: Mammogram) -> str:
    side = {"L": "left", "R": "right", None: ""}[mammogram.placed.laterality]
    place = " ".join(part for part in (side, mammogram.placed.view) if part)
    return textwrap.fill(mammogram.path.name, WRAP) + (f"\n{place}" if place else "")
