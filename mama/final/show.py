"""Answers of a model on single images: probabilities of the tasks, and heat maps of sentences."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mama.data.augment import Layout, normalise, placement
from mama.data.reports.language import codes, load_language, recognise
from mama.data.reports.read import read_report
from mama.data.studies import Sentence
from mama.errors import DataError
from mama.evaluation.heat_map import heat_maps
from mama.final.mammogram import Mammogram
from mama.final.pretrained import PretrainedMaMA

PICTURE_SIDE = 600  # pixels of the drawn breast's longer side


@dataclass(frozen=True)
class Answer:
    """Probability of one class, with the prompt of the class that is most similar to the image."""

    name: str
    probability: float
    prompt: str


@dataclass(frozen=True)
class Heat:
    """Heat map of one sentence.

    Attributes:
        text: the sentence.
        cosine: of the whole image with the sentence.
        values: float32 (height, width) over the drawn breast; positive where the image's
            similarity with the sentence comes from, 0 outside the patches that the tower sees.
    """

    text: str
    cosine: float
    values: np.ndarray


def answers(model: PretrainedMaMA, mammogram: Mammogram, task: str) -> list[Answer]:
    """Return the answers for one image, a class each; errors as `PretrainedMaMA.predict`."""
    found = model.predict(mammogram, task)
    vector = model.encode_image(mammogram)[0]
    closest = {
        name: texts[int((model.encode_text(texts) @ vector).argmax())]
        for name, texts in model.prompts_of(task).items()
    }
    return [Answer(name, value, closest[name]) for name, value in found.items()]


def read_sentences(path: Path) -> tuple[Sentence, ...]:
    """Return the sentences of a report's text file, with their breasts as ingest finds them.

    Raises:
        DataError: the file is missing, no UTF-8 text, or empty.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        raise DataError(
            "the report is no readable UTF-8 text", where=str(path), fix="Give a text file"
        ) from None
    code = recognise(text)
    sentences = read_report(text, load_language(code) if code in codes() else None).sentences
    if not sentences:
        raise DataError("the report is empty", where=str(path), fix="Give at least one sentence")
    return sentences


def sentences_of(sentences: Sequence[Sentence], mammogram: Mammogram) -> list[str]:
    """Return the texts about the image's breast; all if the image does not tell its side."""
    side = mammogram.placed.laterality
    about = [s for s in sentences if side is None or s.side in (side, "both", None)]
    return list(dict.fromkeys(sentence.text for sentence in about))


def heats(model: PretrainedMaMA, mammogram: Mammogram, texts: Sequence[str]) -> list[Heat]:
    """Return a heat map for each sentence, each encoded alone.

    Raises:
        DataError: the file is no usable mammogram, or a sentence has no words.
    """
    config = model.experiment.image
    canvas = normalise([mammogram.canvas(config.size, config.layout)]).to(model.device)
    vectors = model.encode_text(texts)
    (maps,) = heat_maps(model.model, canvas, vectors.to(model.device))
    shape = mammogram.breast(PICTURE_SIDE).pixels.shape
    cosines = (model.encode_image(mammogram) @ vectors.T)[0].tolist()
    return [
        Heat(text, cosine, over_breast(one.numpy(), config.size, config.layout, shape))
        for text, cosine, one in zip(texts, cosines, maps, strict=True)
    ]


def over_breast(
    patches: np.ndarray, size: tuple[int, int], layout: Layout, shape: tuple[int, ...]
) -> np.ndarray:
    """Return the values of patches at the pixels of the breast that `on_canvas` placed.

    Args:
        patches: float32 (rows, columns) over the canvas; NaN counts as 0.
        size: height and width of the canvas in pixels.
        layout: of the breast on the canvas.
        shape: height and width of the breast's picture in pixels.

    Returns:
        float32 of `shape`, interpolated linearly.
    """
    values = torch.from_numpy(np.nan_to_num(patches))[None, None]
    if layout == "square":
        return _enlarged(values, shape)
    canvas = torch.from_numpy(_enlarged(values, size))
    top, height, width = placement(shape, size, layout)
    return _enlarged(canvas[None, None, top : top + height, :width], shape)


def _enlarged(values: torch.Tensor, shape: tuple[int, ...]) -> np.ndarray:
    size = (shape[0], shape[1])
    enlarged = torch.nn.functional.interpolate(values, size, mode="bilinear", align_corners=False)
    return np.asarray(enlarged[0, 0])
