"""Synthetic workload of the step benchmarks: drawn breasts, generated reports, a small GPT-2."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as Picture
from scipy.ndimage import gaussian_filter
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers import models as token_models
from transformers import GPT2Config, GPT2Model, PreTrainedTokenizerFast
from transformers import logging as transformers_logging

from mama.config import Experiment
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.data.picture import write_picture
from mama.data.studies import Image, Labels, Sentence, Study

TEXT = "small-gpt2"
WORDS = [f"{first}{second}" for first in "bdfgklmnprst" for second in ("al", "en", "is", "or")]
# `mama` refuses a tokeniser that knows no word of a real report.
VOCABULARY = ["<|endoftext|>", ".", *WORDS, "mass"]
SENTENCES = (8, 11)  # minimum and maximum per report (MaMA's captions)
LENGTH = 11  # words per sentence; with full stop and separator, 11 sentences make 144 tokens
DEPTH = (
    0.37,
    0.51,
)  # width of a breast relative to its height, minimum and maximum: 0.36 of 37 x 37 has tissue
VIT_SMALL = "vit_small_patch14_reg4_dinov2"

QUICKSTART = {
    "rotate_degrees": 10,
    "shift": 0.05,
    "min_scale": 0.9,
    "max_scale": 1.1,
    "brightness": 0.2,
    "contrast": 0.2,
}
STILL = {**QUICKSTART, "rotate_degrees": 0, "shift": 0, "min_scale": 1, "max_scale": 1}
PAPER = {
    **STILL,
    "crop": 0.1,
    "flip": 0.5,
    "brightness": 0.8,
    "contrast": 0.8,
    "blur_probability": 0.4,
}


def make_dataset(folder: Path, patients: int, long_side: int) -> Dataset:
    """Return an ingested dataset of one breast per patient in two views, with `jpeg/<id>.jpg`."""
    for name in ("images", "jpeg"):
        (folder / name).mkdir()
    studies = []
    for patient in range(patients):
        random = np.random.default_rng(patient)
        images = []
        for view in ("CC", "MLO"):
            pixels = _breast(long_side, random)
            image = Image(
                id=f"{patient}{view}",
                laterality="L",
                view=view,
                vendor=None,
                height=pixels.shape[0],
                width=pixels.shape[1],
            )
            write_picture(folder / "images" / f"{image.id}.npy", pixels)
            Picture.fromarray(pixels).save(folder / "jpeg" / f"{image.id}.jpg", quality=95)
            images.append(image)
        study = Study(
            id=f"s{patient}",
            patient=f"p{patient}",
            split="train",
            images=tuple(images),
            sentences=tuple(
                Sentence(text=text, side="both", section=None) for text in report(random)
            ),
            labels=Labels(),
        )
        studies.append(study)
    write_manifest(
        folder, Manifest(adapter="drawn", key_check="", long_side=long_side, studies=tuple(studies))
    )
    return Dataset(folder)


def make_tokeniser(folder: Path) -> None:
    """Write a tokeniser of the words VOCABULARY."""
    known = {word: n for n, word in enumerate(VOCABULARY)}
    tokeniser = Tokenizer(token_models.WordLevel(known, unk_token="."))
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokeniser, unk_token=".", eos_token="<|endoftext|>"
    ).save_pretrained(folder)


def make_text_model(folder: Path) -> None:
    """Write a random 4-layer GPT-2 of width 256 with the words VOCABULARY to `small-gpt2`."""
    make_tokeniser(folder / TEXT)
    torch.manual_seed(0)
    settings = GPT2Config(
        vocab_size=len(VOCABULARY),
        n_layer=4,
        n_embd=256,
        n_head=4,
        n_positions=256,
        bos_token_id=0,
        eos_token_id=0,
    )
    transformers_logging.disable_progress_bar()
    GPT2Model(settings).save_pretrained(folder / TEXT)


def table(folder: Path) -> dict[str, Path]:
    """Return the table of base models."""
    return {TEXT: folder / TEXT}


def experiment(image: dict[str, Any], batch: int, **sections: dict[str, Any]) -> Experiment:
    """Return an experiment of `batch` studies per step, with all terms and the paper's heads."""
    values = {
        "name": "benchmark",
        "image": image,
        "text": {"tower": TEXT, "max_tokens": 144, "lora": {"dropout": 0, "targets": ["c_attn"]}},
        "loss": {"local": {"start": 0}},
        "optimiser": {"batch_size": batch},
        "evaluation": {
            "density": {"A": ["fatty"], "D": ["dense"]},
            "suspicious": {"no": ["benign"], "yes": ["suspicious"]},
        },
    }
    return Experiment.model_validate(values | sections)


def _breast(height: int, random: np.random.Generator) -> np.ndarray:
    """Return uint8 (height, width): half an ellipse of cloudy tissue at the left, 0 around it."""
    width = round(height * random.uniform(*DEPTH))
    y, x = np.mgrid[-1 : 1 : height * 1j, 0 : 1 : width * 1j]
    clouds = gaussian_filter(random.standard_normal((height, width)), height / 40)
    levels = 120 + 40 * clouds / clouds.std() + 10 * random.standard_normal((height, width))
    return np.where(x**2 + y**2 <= 1, levels.clip(1, 255), 0).astype(np.uint8)


def report(random: np.random.Generator) -> list[str]:
    """Return a random report of MaMA's caption length."""
    count = random.integers(SENTENCES[0], SENTENCES[1] + 1)
    return [" ".join([*random.choice(WORDS, LENGTH), "."]) for _ in range(count)]
