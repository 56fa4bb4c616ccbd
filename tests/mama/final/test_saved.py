"""Exported model: a self-contained folder with the same outputs as the trained model."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mama.config import Experiment
from mama.config.earlier import find_final
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.errors import ConfigError, DataError, ModelError
from mama.evaluation.evaluate import evaluate_whole
from mama.final.saved import load_final, save_final
from mama.model import MaMA


@pytest.fixture
def final(tmp_path: Path, model: MaMA, experiment: Experiment) -> Path:
    with torch.no_grad():
        model.text.separator.fill_(0.1)
    save_final(tmp_path / "final", model, experiment)
    return tmp_path / "final"


def test_it_answers_as_before(final: Path, model: MaMA, experiment: Experiment) -> None:
    loaded, read = load_final(final)
    assert read == experiment
    assert not loaded.training
    expected = model.state_dict()
    found = loaded.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    images, texts = torch.rand(2, 1, 32, 32), [["no mass", "dense"]]
    assert torch.equal(loaded.similarity(images, texts), model.eval().similarity(images, texts))


def test_figures_of_a_whole_dataset(final: Path, dataset: Dataset) -> None:
    figures = evaluate_whole(final, dataset)
    assert json.loads(json.dumps(figures, allow_nan=False)) == figures
    # The eight studies it may have trained on are left out.
    assert figures["zero_shot"]["density"]["n"] == 6
    assert figures["zero_shot"]["suspicious"]["classes"] == {"no": 9, "yes": 3}
    assert figures["scored"] == {"split": "test", "studies": 6}
    assert 0 <= figures["zero_shot"]["density"]["auc"] <= 1


def test_pathology_is_scored_where_it_is_known(final: Path, dataset: Dataset) -> None:
    assert "pathology" not in evaluate_whole(final, dataset)["zero_shot"]
    studies = [
        study.model_copy(
            update={"labels": study.labels.model_copy(update={"cancer": {"L": number % 2 == 0}})}
        )
        for number, study in enumerate(dataset.manifest.studies)
    ]
    write_manifest(dataset.folder, dataset.manifest.model_copy(update={"studies": tuple(studies)}))
    figures = evaluate_whole(final, Dataset(dataset.folder))["zero_shot"]
    assert figures["pathology"]["classes"] == {"no": 3, "yes": 3}
    assert 0 <= figures["pathology"]["auc"] <= 1
    assert figures["suspicious"]["classes"] == {"no": 9, "yes": 3}


@pytest.mark.parametrize("share", [True, False])
def test_the_model_card_states_the_licence(
    tmp_path: Path, model: MaMA, experiment: Experiment, share: bool
) -> None:
    save_final(tmp_path / "final", model, experiment, share_weights=share)
    card = (tmp_path / "final" / "README.md").read_text()
    assert experiment.image.tower in card
    assert (
        "derive from data whose licence does not allow weights to be shared" in card
    ) is not share


def test_figures_of_a_balanced_subset(
    final: Path, dataset: Dataset, make_experiment: Callable[..., Experiment]
) -> None:
    balanced = make_experiment("evaluation.balanced=true").model_dump(mode="json")
    (final / "experiment.json").write_text(json.dumps(balanced))
    figures = evaluate_whole(final, dataset)["zero_shot"]
    assert figures["density"]["classes"] == {"A": 3, "D": 3}
    assert figures["suspicious"]["classes"] == {"no": 3, "yes": 3}


def test_figures_of_training_studies_are_marked(
    final: Path, dataset: Dataset, tmp_path: Path
) -> None:
    (tmp_path / "images").symlink_to(dataset.folder / "images")
    studies = tuple(dataset.studies("train"))
    write_manifest(tmp_path, Manifest(adapter="test", key_check="", long_side=32, studies=studies))
    assert evaluate_whole(final, Dataset(tmp_path))["scored"] == {"split": "train", "studies": 8}


def test_a_dataset_without_studies(final: Path, tmp_path: Path) -> None:
    write_manifest(
        tmp_path / "none", Manifest(adapter="test", key_check="", long_side=32, studies=())
    )
    with pytest.raises(DataError, match="no studies"):
        evaluate_whole(final, Dataset(tmp_path / "none"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no weights", "holds no model. Specify a finished run's folder, or its final/"),
        ("no experiment", "holds no model"),
        ("other weights", "weights do not fit the experiment"),
        ("cut weights", "weights cannot be read"),
        ("bad experiment", "unknown key"),
        ("no tokeniser", "cannot be loaded"),
    ],
)
def test_damaged_folders(final: Path, damage: str, message: str) -> None:
    weights, settings = final / "model.safetensors", final / "experiment.json"
    values = json.loads(settings.read_text())
    match damage:
        case "no weights":
            weights.unlink()
        case "no experiment":
            settings.unlink()
        case "other weights":
            settings.write_text(json.dumps(values | {"heads": {"embedding": 8}}))
        case "cut weights":
            weights.write_bytes(weights.read_bytes()[:-4])
        case "bad experiment":
            settings.write_text(json.dumps(values | {"extra": 1}))
        case "no tokeniser":
            for path in (final / "text").iterdir():
                path.unlink()
    error = ConfigError if damage == "bad experiment" else ModelError
    with pytest.raises(error, match=message):
        load_final(final)


def test_an_experiment_that_is_no_json(final: Path) -> None:
    (final / "experiment.json").write_text("{")
    with pytest.raises(ModelError, match="experiment"):
        load_final(final)


def test_a_quantised_base_is_written_as_it_was(
    final: Path,
    model: MaMA,
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
    tmp_path: Path,
) -> None:
    """Packed integers and their scales stand in for a layer of bitsandbytes."""
    base = model.state_dict()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data += 0.01
    for module in list(model.text.backbone.modules()):
        if isinstance(module, torch.nn.Linear) and not module.weight.requires_grad:
            packed = torch.zeros(module.weight.numel() // 2, 1, dtype=torch.uint8)
            module.weight = torch.nn.Parameter(packed, requires_grad=False)
            module.register_buffer("absmax", torch.ones(1))
    quantised = make_experiment("text.base_bits=4")
    save_final(tmp_path / "quantised", model, quantised, base_models)
    loaded, read = load_final(tmp_path / "quantised")
    assert read == quantised
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    found = loaded.state_dict()
    assert found.keys() == base.keys()
    for name, value in found.items():
        assert torch.equal(value, trained[name] if name in trained else base[name]), name


def test_a_runs_folder_stands_for_its_model(final: Path) -> None:
    assert find_final(final.parent) == final
    assert find_final(final) == final
    assert find_final(final / "text") == final / "text"
