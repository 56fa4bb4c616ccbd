"""A tiny experiment, text tower and dataset, so that the whole method runs in milliseconds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from mama.config import Experiment
from mama.config.load import load
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.data.pairs import StudyPairs
from mama.data.picture import write_picture
from mama.data.studies import Image, Labels, Study
from mama.final.saved import save_final
from mama.model import MaMA, build_model
from tests.reports import sided

SENTENCES = (
    ("the breast is fatty .", "no mass ."),
    ("the breast is dense .", "a suspicious mass in the left breast ."),
)
PROMPTS = {
    "density": {"A": ["a fatty breast"], "D": ["a dense breast", "the breast is dense"]},
    "suspicious": {"no": ["no mass"], "yes": ["a suspicious mass"]},
}
EXPERIMENT = {
    "name": "tiny",
    "seed": 3,
    "image": {
        "tower": "vit_tiny_r_s16_p8_224",
        "size": [32, 32],
        "options": {"patch_size": 2, "embed_dim": 32, "depth": 1, "num_heads": 2},
        "pooling": "mean_max",
    },
    "text": {
        "tower": "tiny-bert",
        "max_tokens": 24,
        "lora": {"rank": 2, "alpha": 4, "dropout": 0.1, "targets": ["query", "value"]},
    },
    "heads": {"embedding": 16, "view_hidden": 16, "local_hidden": 16},
    "optimiser": {"lr": 0.003, "batch_size": 4},
    "federation": {"rounds": 5, "local_steps": 2},
    "evaluation": PROMPTS,
}


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def experiment_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("experiment") / "tiny.yaml"
    path.write_text(yaml.safe_dump(EXPERIMENT))
    return path


@pytest.fixture
def values() -> dict[str, Any]:
    """The tiny experiment as a mapping, free to change."""
    return json.loads(json.dumps(EXPERIMENT))


@pytest.fixture(scope="session")
def make_experiment(experiment_file: Path) -> Callable[..., Experiment]:
    """The tiny experiment with `a.b=c` overrides."""
    return lambda *overrides: load(Experiment, experiment_file, overrides)


@pytest.fixture(scope="session")
def experiment(make_experiment: Callable[..., Experiment]) -> Experiment:
    return make_experiment()


@pytest.fixture(scope="session")
def base_models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A BERT of one layer of width 32 that knows the words of SENTENCES and PROMPTS."""
    folder = tmp_path_factory.mktemp("models") / "tiny-bert"
    words = sorted({word for text in _all_texts() for word in text.split()})
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]
    tokeniser = Tokenizer(
        models.WordPiece({word: n for n, word in enumerate(vocabulary)}, unk_token="[UNK]")
    )
    tokeniser.normalizer = normalizers.Lowercase()
    tokeniser.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokeniser,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    ).save_pretrained(folder)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(
            BertConfig(
                vocab_size=len(vocabulary),
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
                max_position_embeddings=64,
            )
        ).save_pretrained(folder)
    return {"tiny-bert": folder}


@pytest.fixture(scope="session")
def final(
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """An untrained model that answers in the classes of mini-MIAS."""
    folder = tmp_path_factory.mktemp("model") / "final"
    experiment = make_experiment(
        "evaluation.density={F: [a fatty breast], G: [the breast], D: [a dense breast]}"
    )
    save_final(folder, build_model(experiment, base_models), experiment)
    return folder


@pytest.fixture
def model(experiment: Experiment, base_models: dict[str, Path]) -> MaMA:
    return build_model(experiment, base_models)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Eight training and six test studies of four images; bright is dense, white a lesion.

    Study 0 has no report, study 1 no labels.
    """
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "images").mkdir()
    studies = [_study(folder, number) for number in range(14)]
    write_manifest(
        folder, Manifest(adapter="test", key_check="", long_side=32, studies=tuple(studies))
    )
    return Dataset(folder)


@pytest.fixture
def pairs(dataset: Dataset, experiment: Experiment) -> StudyPairs:
    return StudyPairs(dataset, experiment, "site")


def _study(folder: Path, number: int) -> Study:
    dense = number % 2
    images = []
    for side in "LR":
        for view in ("CC", "MLO"):
            random = np.random.default_rng([number, ord(side), len(view)])
            pixels = random.integers(30 + 100 * dense, 60 + 100 * dense, (32, 24), dtype=np.uint8)
            if dense and side == "L":
                pixels[8:16, 8:16] = 255
            image = Image(
                id=f"i{number}{side}{view}",
                laterality=side,
                view=view,
                vendor="one" if number % 4 < 2 else "two",
                height=32,
                width=24,
            )
            write_picture(folder / "images" / f"{image.id}.npy", pixels)
            images.append(image)
    return Study(
        id=f"s{number}",
        patient=f"p{number}",
        split="train" if number < 8 else "test",
        images=tuple(images),
        sentences=sided(SENTENCES[dense] if number else ()),
        labels=Labels(density="AD"[dense], suspicious={"L": bool(dense), "R": False})
        if number != 1
        else Labels(),
    )


def _all_texts() -> list[str]:
    prompts = [p for classes in PROMPTS.values() for texts in classes.values() for p in texts]
    return [sentence for report in SENTENCES for sentence in report] + prompts
