"""The finished model as a self-contained folder: weights, experiment, tokeniser.

model.safetensors   all weights of both towers and heads
experiment.json     prompts, preprocessing, pooling, architecture
text/               tokeniser and configuration of the text tower
README.md           model card: towers, use, and the licence of the training data
"""

import json
from collections.abc import Mapping
from pathlib import Path

from mama.config import Experiment
from mama.config.earlier import TRAINED
from mama.config.load import build
from mama.errors import ModelError
from mama.exchange.fingerprint import trained_fingerprint
from mama.final.card import final_card
from mama.model import MaMA, build_model
from mama.system.files import private_folder, write_text
from mama.system.tensors import load_tensors, save_tensors

FORMAT = 1


def save_final(
    folder: Path,
    model: MaMA,
    experiment: Experiment,
    models: Mapping[str, Path] | None = None,
    *,
    share_weights: bool = True,
) -> None:
    """Write a model with everything needed to use it; the weights are written last.

    A base model that was quantised for training (`text.base_bits`) is written in fp32 as before
    quantisation, with the trained weights. The folder thus needs neither bitsandbytes nor the base
    model, and its outputs equal those in training up to quantisation. Both models are in memory for
    a moment.

    Args:
        folder: folder to write to.
        model: the finished model.
        experiment: its experiment.
        models: this machine's base models, for the original weights of a quantised one.
        share_weights: False if the licence of training data lets no weights be shared, which the
            model card then states.
    """
    if experiment.text.base_bits is not None:
        model = _with_original_base(model, experiment, models)
    private_folder(folder)
    model.text.tokeniser.save_pretrained(folder / "text")
    model.text.backbone.config.save_pretrained(folder / "text")
    write_text(
        folder / "experiment.json", json.dumps(experiment.model_dump(mode="json"), indent=1) + "\n"
    )
    write_text(folder / "README.md", final_card(experiment, share_weights=share_weights))
    state = {"format": FORMAT, TRAINED: trained_fingerprint(model)}
    save_tensors(folder / "model.safetensors", model.state_dict(), state)


def _with_original_base(
    model: MaMA, experiment: Experiment, models: Mapping[str, Path] | None
) -> MaMA:
    text = experiment.text.model_copy(update={"base_bits": None})
    original = build_model(experiment.model_copy(update={"text": text}), models)
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    original.load_state_dict({name: p.detach().cpu() for name, p in trained.items()}, strict=False)
    return original


def load_final(folder: Path) -> tuple[MaMA, Experiment]:
    """Read a model written by `save_final`.

    Raises:
        ModelError: the folder is not such a model, or its weights do not fit its experiment.
    """
    experiment = read_experiment(folder)
    model = build_model(experiment, {experiment.text.tower: folder / "text"}, from_weights=False)
    tensors, state = load_tensors(folder / "model.safetensors")
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise ModelError(
            "the model has an unknown format",
            where=str(folder),
            fix="Use the version that wrote it",
        )
    try:
        model.load_state_dict(tensors)
    except RuntimeError:
        raise ModelError("the weights do not fit the experiment", where=str(folder)) from None
    return model.eval(), experiment


def read_experiment(folder: Path) -> Experiment:
    """Return the experiment of a model written by `save_final`.

    Raises:
        ModelError: the folder is not such a model.
    """
    path = folder / "experiment.json"
    if not path.is_file() or not (folder / "model.safetensors").is_file():
        raise ModelError(
            "the folder holds no model",
            where=str(folder),
            fix="Specify a finished run's folder, or its final/",
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):
        raise ModelError(
            "the experiment is damaged", where=str(path), fix="Copy the file again"
        ) from None
    return build(Experiment, values, str(path))
