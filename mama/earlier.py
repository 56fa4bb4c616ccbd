"""The earlier model that a run starts from: a folder in an experiment's file, the fingerprint of its trained weights in
the experiment that travels and is hashed, which names no path."""

import re
from collections.abc import Sequence
from pathlib import Path

from mama.configfile import read_yaml
from mama.errors import ConfigError, ModelError

KEY = "init_from"
# In the state of a final model's file.
TRAINED = "trained"


def earlier_model(path: Path, overrides: Sequence[str] = ()) -> tuple[list[str], dict[str, Path]]:
    """The override that puts a fingerprint in the place of a folder, and where the model of this fingerprint lies.

    Both are empty where the file names no folder. A relative one counts from where the command is run. The file's own
    word is taken for the fingerprint; `mama.start.start_from` checks it.

    Raises:
        ConfigError: `init_from` is neither a folder nor a fingerprint.
        ModelError: the folder holds no model.
    """
    named = read_yaml(path, overrides).get(KEY)
    if named is None or (isinstance(named, str) and is_fingerprint(named)):
        return [], {}
    if not isinstance(named, str) or not named:
        raise ConfigError("is no folder of a model", where=KEY, fix="Name a run's final/ folder")
    final = find_final(Path(named))
    if not (final / "model.safetensors").is_file():
        raise ModelError(
            "holds no model",
            where=f"{KEY}: {named}",
            fix="Name a finished run's folder, or its final/",
        )
    from mama.checkpoint import claimed_state  # loads torch

    state = claimed_state(final / "model.safetensors")
    found = state.get(TRAINED) if isinstance(state, dict) else None
    if not isinstance(found, str) or not is_fingerprint(found):
        raise ModelError(
            "does not say the fingerprint of its trained weights",
            where=f"{KEY}: {named}",
            fix="It is of an older version; write it anew with the same command and another --out",
        )
    return [f'{KEY}="{found}"'], {found: final}


def find_final(folder: Path) -> Path:
    """The folder of a finished model: the one given, or `final` in a run's folder."""
    final = folder / "final"
    return final if final.is_dir() and not (folder / "experiment.json").is_file() else folder


def is_fingerprint(text: str) -> bool:
    """Whether it is a SHA-256 in hex."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None
