"""Base models at the coordinator, needed for the initial and final model of a run."""

import json
import subprocess
import sys
from pathlib import Path

from mama.config.entry import put_entries
from mama.errors import ConfigError, MamaError, ModelError
from mama.system.processes import die_with_parent
from server.federation.home import Home


def add_base(home: Home, folder: Path, name: str | None, licence: str | None) -> list[str]:
    """Check a folder of base weights and register it in the federation file.

    Args:
        home: the federation to edit.
        folder: the folder of weights.
        name: its name in experiments; None for the folder's name.
        licence: its licence; None for the first line of the licence file.

    Returns:
        Lines for people.

    Raises:
        ModelError: the folder contains pickles, has no valid safetensors, or no licence is known.
        ConfigError: the name cannot be used in experiments, or the federation file not edited.
    """
    # In a subprocess, so that the server never loads a tower.
    ended = subprocess.run(
        [
            *(sys.executable, "-I", "-m", "mama.towers.bases"),
            *(str(folder.resolve()), json.dumps(name), json.dumps(licence)),
        ],
        capture_output=True,
        text=True,
        encoding="utf-8",
        preexec_fn=die_with_parent,
    )
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exited with code {ended.returncode}"]
        kinds = {kind.exit_code: kind for kind in (ModelError, ConfigError)}
        raise kinds.get(ended.returncode, MamaError)(lines[-1])
    found = json.loads(ended.stdout)
    put_entries(home.path, {(section, key): value for section, key, value in found["entries"]})
    return list(found["lines"])
