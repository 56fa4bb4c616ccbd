"""The finished model as a folder that needs nothing else: weights, experiment, tokeniser.

model.safetensors   all weights of both towers and heads
experiment.json     prompts, preprocessing, pooling, architecture
text/               tokeniser and configuration of the text tower
"""

import json
from collections.abc import Mapping
from pathlib import Path

from mama.checkpoint import load_tensors, save_tensors
from mama.config import Experiment
from mama.configfile import build
from mama.earlier import TRAINED
from mama.errors import ModelError
from mama.exchange.fingerprint import trained_fingerprint
from mama.files import private_folder, write_text
from mama.model import MaMA, build_model

FORMAT = 1


def save_final(
    folder: Path, model: MaMA, experiment: Experiment, models: Mapping[str, Path] | None = None
) -> None:
    """Write a model with all that its use needs; the weights come last and make it whole.

    A base that was quantised for training (`text.base_bits`) is written as it was before, in fp32, with the trained
    weights beside it: so the folder needs neither bitsandbytes nor the base model, and answers up to quantisation
    as the model did in training. For a moment both are in memory.

    Args:
        models: this machine's base models, which hold the quantised base's own weights.
    """
    if experiment.text.base_bits is not None:
        model = _with_its_own_base(model, experiment, models)
    private_folder(folder)
    model.text.tokeniser.save_pretrained(folder / "text")
    model.text.backbone.config.save_pretrained(folder / "text")
    write_text(
        folder / "experiment.json", json.dumps(experiment.model_dump(mode="json"), indent=1) + "\n"
    )
    state = {"format": FORMAT, TRAINED: trained_fingerprint(model)}
    save_tensors(folder / "model.safetensors", model.state_dict(), state)


def _with_its_own_base(
    model: MaMA, experiment: Experiment, models: Mapping[str, Path] | None
) -> MaMA:
    text = experiment.text.model_copy(update={"base_bits": None})
    whole = build_model(experiment.model_copy(update={"text": text}), models)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    whole.load_state_dict({name: p.detach().cpu() for name, p in trained.items()}, strict=False)
    return whole


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
        raise ModelError(
            "holds no model", where=str(folder), fix="Give a finished run's folder, or its final/"
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ModelError("experiment is damaged", where=str(path), fix="Copy it again") from None
    return build(Experiment, values, str(path))
