"""Base weights added by hand: inspected without running, entered under the right name."""

import hashlib
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertModel

from client.cli import main
from client.handlers import answer
from client.site.base_models import add_base
from client.site.config import load_site
from mama.errors import ConfigError, ModelError
from mama.exchange.protocol import Task
from mama.system.formats import size

FILE = (
    "# ours\nsite: north\ndata: {source: archive, dataset: dataset}\nstate: state\n"
    "secret: secret.key\n"
)
TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "half": torch.ones(2, dtype=torch.bfloat16)}


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models" / "vit_mine"
    made.mkdir(parents=True)
    save_file(TENSORS, made / "model.safetensors")
    (made / "LICENSE.txt").write_text("\n   Apache  License \nVersion 2.0\n")
    return made


def refused(site: Path, folder: Path, **options: Any) -> ModelError:
    before = site.read_text()
    with pytest.raises(ModelError) as error:
        add_base(site, folder, options.get("name"), options.get("licence"))
    assert site.read_text() == before
    assert "\n" not in str(error.value)
    return error.value


def test_it_is_entered_with_fingerprint_and_licence(
    command: Callable[..., Any], site: Path, folder: Path
) -> None:
    ended = command(main, "base", "add", site, folder)
    weights = folder / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert ended.out == (
        f"{folder}: {size(weights.stat().st_size)}\n"
        f"  sha256 {digest}  model.safetensors\n"
        f"  licence: Apache License, first line of {folder / 'LICENSE.txt'}\n"
    )
    assert load_site(site).models == {"vit_mine": folder}
    assert load_site(site).licences == {"vit_mine": "Apache License"}
    assert site.read_text().startswith(FILE)


def test_a_name_and_a_licence_can_be_given(site: Path, folder: Path) -> None:
    (folder / "LICENSE.txt").unlink()
    assert "--licence" in str(refused(site, folder))
    (folder / "license").write_text("  \n")
    assert "--licence" in str(refused(site, folder, licence=" "))
    add_base(site, folder, "BioMedLM", "bigscience\nrail-1.0")
    assert load_site(site).models == {"BioMedLM": folder}
    assert load_site(site).licences == {"BioMedLM": "bigscience rail-1.0"}


def test_a_name_that_no_experiment_can_have(site: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match="is no name of a base model"):
        add_base(site, folder, "../vit", None)
    assert site.read_text() == FILE


def test_weights_in_pieces(site: Path, folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    save_file({"more": torch.ones(1)}, folder / "model-2.safetensors")
    index = folder / "model.safetensors.index.json"
    names = {"weight": "model-1.safetensors", "more": "model-2.safetensors"}
    index.write_text(json.dumps({"weight_map": names}))
    base = add_base(site, folder, None, None)
    assert list(base.weights) == ["model-1.safetensors", "model-2.safetensors"]

    (folder / "model-2.safetensors").unlink()
    assert str(folder / "model-2.safetensors") in str(refused(site, folder))
    for text in (
        "",
        "[]",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": {"a": "../x"}}',
        '{"weight_map": {"a": 1}}',
    ):
        index.write_text(text)
        assert "is no index of weights" in str(refused(site, folder))


@pytest.mark.parametrize("damage", [b"", b"not a model", None])
def test_what_is_no_whole_safetensors_file(site: Path, folder: Path, damage: bytes | None) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1] if damage is None else damage)
    assert "no whole safetensors file" in str(refused(site, folder))


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite(site: Path, folder: Path, value: float) -> None:
    save_file(TENSORS | {"z": torch.tensor([1.0, value])}, folder / "model.safetensors")
    assert "its tensor z is not finite" in str(refused(site, folder))


def test_an_adapter_beside_the_weights(site: Path, folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}")
    assert "is an adapter in the base model's folder" in str(refused(site, folder))


def test_a_folder_without_weights(site: Path, folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    assert "holds neither model.safetensors" in str(refused(site, folder))
    assert "is no folder" in str(refused(site, folder / "LICENSE.txt"))


def run_the_fix(error: ModelError) -> None:
    """Do what the error's line says."""
    found = re.search(r"python -c (.*)$", str(error))
    assert found is not None
    (code,) = shlex.split(found[1])
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", ["pytorch_model.bin", "weights.pt", "WEIGHTS.PTH"])
def test_a_pickle_is_refused_and_the_line_converts_it(site: Path, folder: Path, name: str) -> None:
    (folder / "model.safetensors").unlink()
    tied = TENSORS | {"tied": TENSORS["weight"].T}
    torch.save(tied, folder / name)
    error = refused(site, folder)
    assert error.where == str(folder / name)
    run_the_fix(error)
    found = load_file(folder / "model.safetensors")
    assert {key: value.tolist() for key, value in found.items()} == {
        key: value.tolist() for key, value in tied.items()
    }
    assert "Remove it" in str(refused(site, folder))
    (folder / name).unlink()
    add_base(site, folder, None, None)


def test_a_site_uses_what_was_added(
    site_file: Path,
    small_config: Callable[..., Any],
    make_task: Callable[..., Task],
    folder: Path,
) -> None:
    experiment = small_config("image.pretrained=true").experiment()
    header = make_task("describe", of=experiment).encode()
    options = experiment.image.options | {"img_size": experiment.image.size}
    model = timm.create_model(experiment.image.tower, num_classes=0, in_chans=3, **options)
    save_file(model.state_dict(), folder / "model.safetensors")
    add_base(site_file, folder, experiment.image.tower, None)
    assert answer(load_site(site_file), header, b"")[0].status == "ok"


def test_a_language_models_pieces_are_converted_too(site: Path, tmp_path: Path) -> None:
    config = BertConfig(
        vocab_size=8,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        intermediate_size=8,
        max_position_embeddings=8,
    )
    model, folder = BertModel(config), tmp_path / "bert"
    config.save_pretrained(folder)
    names = list(model.state_dict())
    pieces = {name: f"pytorch_model-{n % 2}.bin" for n, name in enumerate(names)}
    for file in set(pieces.values()):
        part = {n: value for n, value in model.state_dict().items() if pieces[n] == file}
        torch.save(part, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": pieces}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    run_the_fix(refused(site, folder, licence="MIT"))
    for file in set(pieces.values()):
        (folder / file).unlink()
    assert "its tokeniser" in str(refused(site, folder, licence="MIT"))
    (folder / "vocab.txt").write_text("[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nmass\nbreast\n")
    add_base(site, folder, None, "MIT")
    again = BertModel.from_pretrained(folder, use_safetensors=True).state_dict()
    assert all(torch.equal(again[name], value) for name, value in model.state_dict().items())
