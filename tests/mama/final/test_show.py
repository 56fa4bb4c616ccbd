"""`mama show`: probabilities with prompts, and heat maps at the right places of the image."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mama.cli import main
from mama.data.augment import Layout, on_canvas
from mama.final.card import NO_DEVICE
from mama.final.draw import draw
from mama.final.mammogram import read_mammogram
from mama.final.pretrained import PretrainedMaMA
from mama.final.show import PICTURE_SIDE, Heat, heats, over_breast, read_sentences, sentences_of
from tests.mama.data.conftest import write_mammogram

REPORT = "Spiculated mass in the left breast. No mass in the right breast. Dense breasts.\n"


@pytest.mark.parametrize("layout", ["native", "square"])
@pytest.mark.parametrize("shape", [(90, 40), (40, 90)])
def test_a_patch_lies_over_the_pixels_it_was_computed_from(
    layout: Layout, shape: tuple[int, int]
) -> None:
    breast = np.ones(shape, np.uint8)
    row, column = shape[0] // 5, 3 * shape[1] // 5
    breast[row - 2 : row + 3, column - 2 : column + 3] = 255
    size = (64, 48)
    canvas = on_canvas(breast, size, layout)
    patches = canvas.reshape(16, 4, 12, 4).max((1, 3)).astype(np.float32)
    patches[patches <= 1] = np.nan
    values = over_breast(patches, size, layout, shape)
    assert values.shape == shape
    found = np.unravel_index(values.argmax(), shape)
    assert np.abs(np.subtract(found, (row, column))).max() <= 8


def test_sentences_are_those_about_the_breast(dicom: Path, png: Path, tmp_path: Path) -> None:
    (tmp_path / "report.txt").write_text(REPORT)
    sentences = read_sentences(tmp_path / "report.txt")
    assert sentences_of(sentences, read_mammogram(dicom)) == [
        "No mass in the right breast.", "Dense breasts."
    ]  # fmt: skip
    assert len(sentences_of(sentences, read_mammogram(png))) == 3


def test_heats_are_finite_and_belong_to_their_sentence(
    pretrained: PretrainedMaMA, dicom: Path
) -> None:
    mammogram = read_mammogram(dicom)
    first, second = heats(pretrained, mammogram, ["no mass", "a dense breast"])
    assert first.values.shape == second.values.shape == mammogram.breast(PICTURE_SIDE).pixels.shape
    assert np.isfinite(first.values).all()
    assert not np.allclose(first.values, second.values)
    assert first.cosine == pytest.approx(pretrained.similarity(dicom, "no mass").item(), abs=1e-6)


def test_a_mirrored_breast_is_drawn_as_it_hangs(dicom: Path, tmp_path: Path) -> None:
    mammogram = read_mammogram(dicom)
    values = np.zeros(mammogram.breast(PICTURE_SIDE).pixels.shape, np.float32)
    values[:, : values.shape[1] // 4] = 1  # at the chest wall, which this file has on the right
    draw([(mammogram, [Heat("a sentence", 0.5, values)])], tmp_path / "out.png")
    pixels = np.asarray(Image.open(tmp_path / "out.png").convert("RGB")).astype(int)
    coloured = np.argwhere(pixels[..., 0] - pixels[..., 2] > 60)
    grey = np.argwhere(pixels.max(-1) == 0)  # the black beside the breast
    assert len(coloured) > 1000
    panel = grey[grey[:, 1] > pixels.shape[1] // 2]
    assert coloured[:, 1].mean() > panel[:, 1].mean()


def test_the_command(
    command: Callable[..., Any], run: Path, dicom: Path, png: Path, tmp_path: Path
) -> None:
    (tmp_path / "report.txt").write_text(REPORT)
    out = tmp_path / "maps.png"
    words = ["--report", tmp_path / "report.txt", "--out", out, "--device", "cpu"]
    ended = command(main, "show", dicom, png, run, *words)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.count(NO_DEVICE) == 1
    lines = [line.split() for line in ended.out.splitlines()]
    chosen = [line for line in lines if line[:2] == ["density", "A"]]
    assert [line[3:] for line in chosen] == [["a", "fatty", "breast"]] * 2
    assert 0 < float(chosen[0][2]) < 1
    assert Image.open(out).width > 1000


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["{dicom}", "{nowhere}"], 4, "the folder holds no model"),
        (["{nowhere}", "{run}"], 3, "no such image"),
        (["{ct}", "{run}"], 3, "the Modality is not MG"),
        (["{dicom}", "{run}", "--out", "x.png"], 2, "--report and --out belong together"),
        (["{dicom}", "{run}", "--out", "x.png", "--report", "{empty}"], 3, "the report is empty"),
        (["{dicom}", "{run}", "--out", "x.png", "--report", "{dicom}"], 3, "no readable UTF-8"),
    ],
)
def test_mistakes_are_named_in_one_line(
    command: Callable[..., Any],
    run: Path,
    dicom: Path,
    tmp_path: Path,
    words: list[str],
    code: int,
    message: str,
) -> None:
    (tmp_path / "empty.txt").write_text(" \n")
    ct = write_mammogram(tmp_path / "ct.dcm", Modality="CT")
    places = {"run": run, "dicom": dicom, "ct": ct, "empty": tmp_path / "empty.txt"}
    given = [word.format(nowhere=tmp_path / "nowhere", **places) for word in words]
    ended = command(main, "show", *given)
    assert ended.code == code
    assert ended.err.count("\n") == 1
    assert message in ended.err
