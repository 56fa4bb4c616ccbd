"""The finished model as a folder that needs nothing else: weights, experiment, tokeniser.

model.safetensors   all weights of both towers and heads
experiment.json     prompts, preprocessing, pooling, architecture
text/               tokeniser and configuration of the text tower
"""

import json
from pathlib import Path

from mama.checkpoint import load_tensors, save_tensors
from mama.config import Experiment
from mama.configfile import build
from mama.errors import ModelError
from mama.files import write_text
from mama.model import MaMA, build_model

FORMAT = 1


def save_final(folder: Path, model: MaMA, experiment: Experiment) -> None:
    """Write a model with all that its use needs; the weights come last and make it whole."""
    folder.mkdir(parents=True, exist_ok=True)
    model.text.tokeniser.save_pretrained(folder / "text")
    model.text.backbone.config.save_pretrained(folder / "text")
    write_text(
        folder / "experiment.json", json.dumps(experiment.model_dump(mode="json"), indent=1) + "\n"
    )
    save_tensors(folder / "model.safetensors", model.state_dict(), {"format": FORMAT})


def load_final(folder: Path) -> tuple[MaMA, Experiment]:
    """Read a model that `save_final` wrote.

    Raises:
        ModelError: the folder is no such model, or its weights do not fit its experiment.
    """
    experiment = read_experiment(folder)
    model = build_model(experiment, {experiment.text.tower: folder / "text"}, from_weights=False)
    tensors, state = load_tensors(folder / "model.safetensors")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelError(
            "is of another format", where=str(folder), fix="Use the version that wrote it"
        )
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise ModelError("weights do not fit the experiment", where=str(folder)) from None
    return model.eval(), experiment


def read_experiment(folder: Path) -> Experiment:
    """The experiment of a model that `save_final` wrote.

    Raises:
        ModelError: the folder is no such model.
    """
    path = folder / "experiment.json"
    if not path.is_file() or not (folder / "model.safetensors").is_file():
        raise ModelError("holds no model", where=str(folder), fix="Give a run's final/ folder")
    try:
        values = json.loads(path.read_text())
    except ValueError:
        raise ModelError("experiment is damaged", where=str(path), fix="Copy it again") from None
    return build(Experiment, values, str(path))
