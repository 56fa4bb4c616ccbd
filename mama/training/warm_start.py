"""Start a run from an earlier model (`init_from`) with the same architecture and base weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mama.config import Experiment
from mama.config.earlier import KEY
from mama.errors import ModelError
from mama.exchange.fingerprint import fingerprint, trained_fingerprint
from mama.final.saved import load_final, read_experiment
from mama.model import MaMA

# Options that change no name, shape or base of a weight.
FREE = ("pretrained", "max_tokens", "base_bits", "dropout")


def start_from(model: MaMA, experiment: Experiment, models: Mapping[str, Path]) -> None:
    """Load the weights of the model named by `init_from`, if any, into a new model.

    Args:
        model: the new model.
        experiment: its configuration.
        models: this machine's models, including the one from `earlier_model`.

    Raises:
        ModelError: the earlier model is missing, was modified, or has another architecture or other
            base weights.
    """
    wanted = experiment.init_from
    if wanted is None:
        return
    if wanted not in models:
        raise ModelError(
            f"the initial model {wanted[:16]} is not available here",
            where=KEY,
            fix="Give its folder, the final/ of a run",
        )
    folder = models[wanted]
    require_same(experiment, read_experiment(folder), str(folder))
    earlier = load_final(folder)[0]
    if trained_fingerprint(earlier) != wanted:
        raise ModelError(
            "was modified after training", where=str(folder), fix="Repeat the run that made it"
        )
    if experiment.text.base_bits is None and fingerprint(earlier) != fingerprint(model):
        raise ModelError(
            "was trained on other base weights",
            where=str(folder),
            fix="Install the base models with which it was trained",
        )
    known = model.state_dict().keys()
    buffers = {name for name, _ in model.named_buffers() if name in known}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    state = earlier.state_dict()
    model.load_state_dict({name: state[name] for name in trained | buffers}, strict=False)


def require_same(experiment: Experiment, earlier: Experiment, where: str) -> None:
    """Reject an earlier model of another architecture.

    Raises:
        ModelError: names the first key in which the two differ.
    """
    for section in ("image", "text", "heads"):
        now, before = (
            _flat(getattr(e, section).model_dump(mode="json")) for e in (experiment, earlier)
        )
        for key in now | before:
            if now.get(key) != before.get(key) and key.split(".")[-1] not in FREE:
                raise ModelError(
                    f"has another architecture: its {section}.{key} is {before.get(key)}, "
                    f"the experiment's {now.get(key)}",
                    where=where,
                    fix="Copy image, text and heads of the earlier experiment",
                )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        inner = key == "lora" and isinstance(value, dict)
        flat |= _flat(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}": value}
    return flat
