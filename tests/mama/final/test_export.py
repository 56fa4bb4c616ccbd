"""`mama export`: folders that timm, transformers and onnxruntime load without this package."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

import mama.final.export
from mama.cli import main
from mama.config import Experiment
from mama.final.export import export
from mama.final.merged import merged
from mama.final.onnx import FixedCanvas
from mama.final.pretrained import PretrainedMaMA
from mama.final.transformers_folder import write_transformers_folder
from mama.model import MaMA, build_model
from mama.towers.text import TextTower
from tests.mama.final.conftest import stirred

# Everything a user without this package has; it fails if the package can be imported.
ALONE = """
import json, sys
import numpy as np, torch, timm
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

folder, images, out = sys.argv[1:4]
for name in ("mama", "fedmama", "client", "server", "sim"):
    sys.modules[name] = None
try:
    import mama.final
    sys.exit("this package is there")
except ImportError:
    pass
pixels = torch.from_numpy(np.load(images))
found = {}
with torch.no_grad():
    image = timm.create_model(f"local-dir:{folder}/image", pretrained=True).eval()
    found["patches"] = image.forward_features(pixels)
    text = AutoModel.from_pretrained(f"{folder}/text").eval()
    tokeniser = AutoTokenizer.from_pretrained(f"{folder}/text")
    layout = json.load(open(f"{folder}/preprocessor.json"))["text"]
    start, end = (tokeniser.convert_tokens_to_ids(layout[n]) for n in ("start", "separator"))
    words = tokeniser("no mass", add_special_tokens=False)["input_ids"]
    mean = text(torch.tensor([[start, *words, end]])).last_hidden_state.mean(1)
    maps = load_file(f"{folder}/projections.safetensors")
    found["text"] = mean @ maps["text.weight"].T + maps["text.bias"]
import onnxruntime
session = onnxruntime.InferenceSession(f"{folder}/image.onnx")
found["one"] = session.run(None, {"images": pixels[:1].numpy()})[0]
found["all"] = session.run(None, {"images": pixels.numpy()})[0]
np.savez(out, **{name: np.asarray(value) for name, value in found.items()})
"""


@pytest.fixture(scope="module")
def exported(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export") / "model"
    export(run / "final", folder, onnx=False)
    return folder


def images_with_background() -> torch.Tensor:
    """Tissue everywhere; on the left; nowhere."""
    images = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(2)) * 1.9 - 0.95
    images[1, :, :, 12:] = -1
    images[2] = -1
    return images


@pytest.mark.slow
def test_another_process_computes_the_same_without_this_package(
    run: Path, pretrained: PretrainedMaMA, tmp_path: Path
) -> None:
    images = images_with_background()
    np.save(tmp_path / "images.npy", images.numpy())
    export(run / "final", tmp_path / "model")
    places = [tmp_path / name for name in ("model", "images.npy", "found.npz")]
    command = [sys.executable, "-I", "-c", ALONE, *map(str, places)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    found, model = np.load(tmp_path / "found.npz"), pretrained.model
    with torch.no_grad():
        patches = model.image(images[:1]).patches.numpy()
        text = model.encode_texts(model.text.tokenise([["no mass"]])).embedding.numpy()
        vectors = F.normalize(model.encode_images(images).embedding, dim=-1).numpy()
    prefix = model.image.model.num_prefix_tokens
    np.testing.assert_allclose(found["patches"][0, prefix:], patches, atol=1e-5)
    np.testing.assert_allclose(found["text"], text, atol=1e-4)
    np.testing.assert_allclose(found["all"], vectors, atol=1e-4)
    np.testing.assert_allclose(found["one"], vectors[:1], atol=1e-4)
    assert "onnxruntime.InferenceSession" in (tmp_path / "model" / "README.md").read_text()


def test_weights_are_reloaded_bit_by_bit(exported: Path, pretrained: PretrainedMaMA) -> None:
    expected = pretrained.model.image.model.state_dict()
    created = timm.create_model(f"local-dir:{exported / 'image'}", pretrained=True)
    state = created.state_dict()
    assert expected.keys() == state.keys()
    assert all(torch.equal(state[name], value) for name, value in expected.items())
    text = AutoModel.from_pretrained(exported / "text").state_dict()
    base = merged(pretrained.model.text.backbone).state_dict()
    rows = "embeddings.word_embeddings.weight"
    assert all(torch.equal(text[name], value) for name, value in base.items() if name != rows)
    separator = pretrained.model.text.special_ids.separator
    changed = (text[rows] != base[rows]).any(1).nonzero().flatten().tolist()
    assert changed == [separator]
    maps = load_file(exported / "projections.safetensors")
    assert torch.equal(maps["logit_scale"], pretrained.model.logit_scale)
    assert torch.equal(maps["image.weight"], pretrained.model.image_projection.weight)


@pytest.mark.parametrize(
    "missing", [[], ["separator"], ["start"], ["start", "separator"], "shared"]
)
def test_special_tokens_of_any_tokeniser(
    model: MaMA, tmp_path: Path, missing: list[str] | str
) -> None:
    """Base models without a start or separator token, or with one token for both, as GPT-2."""
    tower: TextTower = stirred(model).text.eval()
    reports, ids = tower._reports, tower.special_ids
    vector = torch.full((tower.width,), 0.3)
    if missing == "shared":
        reports.start_id = ids.separator
    for name in missing if isinstance(missing, list) else ():
        setattr(reports, f"{name}_id", None)
    if "start" in missing or missing == "shared":
        tower.start = torch.nn.Parameter(vector)
    with torch.no_grad():
        expected = tower(tower.tokenise([["no mass", "a dense breast"]])).pooled
    layout = write_transformers_folder(tower, tmp_path / "text")
    backbone = AutoModel.from_pretrained(tmp_path / "text").eval()
    tokeniser = AutoTokenizer.from_pretrained(tmp_path / "text")
    text = "{start} no mass {separator} a dense breast {separator}".format(**layout)
    tokens = tokeniser(text, add_special_tokens=False, return_tensors="pt")
    with torch.no_grad():
        found = backbone(**tokens).last_hidden_state.mean(1)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["image.tokens=all", "image.pooling=mean"],
        ["image.lora={rank: 2, targets: [qkv]}"],
        ["image.tower=convnext_atto", "image.options={depths: [1, 1, 1, 1], dims: [8, 8, 8, 16]}"],
    ],
)
def test_a_fixed_canvas_gives_the_packed_towers_vectors(
    overrides: list[str],
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
) -> None:
    built = stirred(build_model(make_experiment(*overrides), base_models)).eval()
    images = images_with_background()
    with torch.no_grad():
        expected = F.normalize(built.encode_images(images, local=False).embedding, dim=-1)
        torch.testing.assert_close(FixedCanvas(built)(images), expected, atol=1e-5, rtol=1e-4)


def test_the_card_is_written_from_the_run(exported: Path) -> None:
    card = (exported / "README.md").read_text()
    for text in (
        "run abc, 2 sites, 5 rounds of 2 local steps",
        "2 sites published counts: 17 patients, 24 studies",
        "| density | A 12 |",
        "| density | 0.875 | 0.750 | 5 A, 6 D |",
        "| suspicious | - | - | none |",
        "Trained without differential privacy",
        "no medical device",
        "No training data was marked as having a licence",
        "`[CLS]`",
    ):
        assert text in card, text
    assert "alder" not in card
    assert "onnx" not in card
    prompts = json.loads((exported / "prompts.json").read_text())
    assert prompts["suspicious"]["yes"] == ["a suspicious mass"]
    assert json.loads((exported / "preprocessor.json").read_text())["size"] == [32, 32]


def test_a_restrictive_licence_goes_with_the_weights(
    make_run: Callable[..., Path], tmp_path: Path
) -> None:
    folder = make_run()
    card = folder / "final" / "README.md"
    text = card.read_text()
    marked = "**These weights derive from data whose licence does not allow weights to be shared.**"
    card.write_text(text[: text.index("## Licence")] + "## Licence\n\n" + marked + "\n")
    export(folder / "final", tmp_path / "marked", onnx=False)
    assert marked in (tmp_path / "marked" / "README.md").read_text()
    card.unlink()
    export(folder / "final", tmp_path / "unknown", onnx=False)
    assert "is not recorded" in (tmp_path / "unknown" / "README.md").read_text()


def test_mistakes(
    command: Callable[..., Any], run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = command(main, "export", run, "--to", tmp_path, "--no-onnx")
    assert (ended.code, ended.err.count("\n")) == (8, 1)
    assert "exists already" in ended.err
    ended = command(main, "export", tmp_path / "none", "--to", tmp_path / "x", "--no-onnx")
    assert (ended.code, ended.err.count("\n")) == (4, 1)
    monkeypatch.setattr(mama.final.export, "can_write", lambda: False)
    ended = command(main, "export", run, "--to", tmp_path / "x")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert "pip install 'fedmama[export]'" in ended.err
    assert not (tmp_path / "x").exists()


def test_a_failed_export_leaves_nothing(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(mama.final.export, "write_json", full)
    with pytest.raises(OSError, match="No space"):
        export(run / "final", tmp_path / "x", onnx=False)
    assert list(tmp_path.iterdir()) == []
