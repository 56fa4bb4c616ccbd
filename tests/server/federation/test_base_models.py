"""`mama-server base add`: as at a site, and used by the next run, also at its end."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors.torch import save_file

from mama.system.formats import size
from server.cli import main
from server.federation.home import Home
from server.run.folder import RunFolder
from server.run.global_model import initial_model
from server.service import jobs
from server.service.jobs import JobFile
from tests.events import made
from tests.server.bench import Bench, bench, folder

__all__ = ["bench", "folder"]  # fixtures


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    made = tmp_path / "models" / "vit_mine"
    made.mkdir(parents=True)
    save_file({"weight": torch.ones(2, 3)}, made / "model.safetensors")
    (made / "LICENSE").write_text("\n  Apache  License \nVersion 2.0\n")
    return made


def test_it_is_entered_with_fingerprint_and_licence(
    bench: Bench, weights: Path, command: Callable[..., Any]
) -> None:
    path = bench.home.path
    path.write_text("# ours\n" + path.read_text())
    before = path.read_text()
    ended = command(main, "base", "add", weights, "--federation", path)
    file = weights / "model.safetensors"
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (
        f"{weights}: {size(file.stat().st_size)}\n"
        f"  sha256 {digest}  model.safetensors\n"
        f"  licence: Apache License, first line of {weights / 'LICENSE'}\n"
    )
    assert path.read_text().startswith(before)
    assert Home(path).models == {"vit_mine": weights}
    assert Home(path).file.licences == {"vit_mine": "Apache License"}


@pytest.mark.parametrize(
    ("change", "options", "code", "why"),
    [
        (lambda f: (f / "weights.bin").write_bytes(b""), (), 4, "is a pickle"),
        (lambda f: (f / "model.safetensors").unlink(), (), 4, "holds neither"),
        (lambda f: (f / "adapter_config.json").write_text("{}"), (), 4, "is an adapter"),
        (lambda f: (f / "modeling.py").write_text(""), (), 4, "requires custom code"),
        (lambda f: (f / "model.safetensors").write_bytes(b"x"), (), 4, "no whole safetensors"),
        (lambda f: None, ("--name", "../vit"), 2, "is no name of a base model"),
        (lambda f: None, ("--name", "é\n"), 2, "is no name of a base model"),
    ],
)
def test_what_is_refused_is_one_line_and_changes_nothing(
    bench: Bench,
    weights: Path,
    command: Callable[..., Any],
    change: Callable[[Path], object],
    options: tuple[str, ...],
    code: int,
    why: str,
) -> None:
    change(weights)
    before = bench.home.path.read_text()
    ended = command(main, "base", "add", weights, *options, "--federation", bench.home.path)
    assert (ended.code, ended.out, ended.err.count("\n")) == (code, "", 1)
    assert why in ended.err
    assert bench.home.path.read_text() == before


def test_a_file_that_only_a_person_can_change(
    bench: Bench, weights: Path, command: Callable[..., Any]
) -> None:
    path = bench.home.path
    path.write_text(path.read_text() + "models: &all\n  vit: /v\n")
    named = ("--name", "lab/BioMedLM", "--licence", "bigscience\nrail")
    ended = command(main, "base", "add", weights, *named, "--federation", path)
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert f'Add models: {{"lab/BioMedLM": "{weights}"}}' in ended.err
    assert 'licences: {"lab/BioMedLM": "bigscience rail"}' in ended.err


@pytest.mark.slow
def test_a_first_model_is_made_of_what_was_added(
    bench: Bench, weights: Path, command: Callable[..., Any], small_config: Callable[..., Any]
) -> None:
    experiment = small_config("image.pretrained=true").experiment()
    options = experiment.image.options | {"img_size": experiment.image.size}
    torch.manual_seed(5)
    model = timm.create_model(experiment.image.tower, num_classes=0, in_chans=3, **options)
    save_file(model.state_dict(), weights / "model.safetensors")
    (bench.home.path.parent / "e.yaml").write_text(experiment.canonical_json())
    name = ("--name", experiment.image.tower)
    assert command(main, "base", "add", weights, *name, "--federation", bench.home.path).code == 0
    arrays, _ = initial_model(bench.home.path.parent / "e.yaml", Home(bench.home.path).models)
    # Weights of patches are fitted to one grey channel.
    wanted = {array.numpy().tobytes() for array in model.state_dict().values() if array.ndim == 2}
    assert wanted <= {array.tobytes() for array in arrays.values()}


def test_a_running_service_knows_it_at_the_end_of_a_run(
    bench: Bench,
    folder: Callable[[str], RunFolder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known: list[dict[str, Path]] = []
    monkeypatch.setattr(jobs, "finish", lambda run, models, *, complete: known.append(models))
    run = folder("run")
    JobFile(bench.home, run.path).ask()
    bench.steps()
    with open(bench.home.path, "a") as file:
        file.write("models: {vit_mine: models/vit}\n")
    run.log(made({"event": "finished"}))
    bench.control.ended.add(1)
    bench.steps()
    assert known == [{"vit_mine": tmp_path / "models" / "vit"}]
