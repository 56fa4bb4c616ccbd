"""Resolve `init_from`, the earlier model that a run starts from.

The experiment file names a folder. The experiment that is hashed and sent to sites contains no
path, only the fingerprint of that model's trained weights.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from mama.config.load import read_yaml
from mama.errors import ConfigError, ModelError

KEY = "init_from"
# Key of the fingerprint in the state of a final model file.
TRAINED = "trained"


def earlier_model(path: Path, overrides: Sequence[str] = ()) -> tuple[list[str], dict[str, Path]]:
    """Return the override that replaces the folder by its fingerprint, and the folder's location.

    Both are empty if the file names no folder. A relative path is resolved against the working
    directory. The fingerprint is taken from the model file unverified;
    `mama.training.warm_start.start_from` verifies it.

    Raises:
        ConfigError: `init_from` is neither a folder nor a fingerprint.
        ModelError: the folder contains no model.
    """
    named = read_yaml(path, overrides).get(KEY)
    if named is None or (isinstance(named, str) and is_fingerprint(named)):
        return [], {}
    if not isinstance(named, str) or not named:
        raise ConfigError(
            "must be the folder of a model", where=KEY, fix="Give the final/ folder of a run"
        )
    final = find_final(Path(named))
    if not (final / "model.safetensors").is_file():
        raise ModelError(
            "contains no model",
            where=f"{KEY}: {named}",
            fix="Give the folder of a finished run, or its final/",
        )
    from mama.system.tensors import claimed_state  # loads torch

    state = claimed_state(final / "model.safetensors")
    found = state.get(TRAINED) if isinstance(state, dict) else None
    if not isinstance(found, str) or not is_fingerprint(found):
        raise ModelError(
            "does not record the fingerprint of its trained weights",
            where=f"{KEY}: {named}",
            fix="It was written by an older version; create it again with the same command and "
            "another --out",
        )
    return [f'{KEY}="{found}"'], {found: final}


def find_final(folder: Path) -> Path:
    """Return the folder of a finished model: the given folder, or `final` in a run folder."""
    final = folder / "final"
    return final if final.is_dir() and not (folder / "experiment.json").is_file() else folder


def is_fingerprint(text: str) -> bool:
    """Return True if the text is a SHA-256 digest in hex."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
