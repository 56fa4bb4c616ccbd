"""Initial and final model, built in a subprocess so that the server never loads a tower."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from mama.errors import MamaError, ModelError
from mama.exchange.arrays import Arrays
from mama.exchange.protocol import Description
from mama.system.processes import die_with_parent
from server.run.folder import RunFolder


def initial_model(experiment: Path, models: Mapping[str, Path]) -> tuple[Arrays, Description]:
    """Return an experiment's initial trained tensors and the required base model of all sites.

    Raises:
        MamaError: the experiment or a base model is not what it should be.
    """
    # Loads torch, which the coordinator's service does without.
    from mama.system.tensors import load_tensors

    with tempfile.TemporaryDirectory(prefix="fedmama-") as folder:
        out = Path(folder) / "start.safetensors"
        _run("start", experiment, models, out)
        tensors, state = load_tensors(out)
    return {name: t.numpy() for name, t in tensors.items()}, Description.model_validate(state)


def write_final(folder: RunFolder, models: Mapping[str, Path]) -> None:
    """Write final/ from a run's newest checkpoint.

    Raises:
        MamaError: a base model is not installed at the coordinator.
    """
    newest = folder.checkpoints()[-1] / "model.safetensors"
    what = "finish-licensed" if folder.history().licensed else "finish"
    _run(what, folder.path / "experiment.yaml", models, newest, folder.path / "final")


def _run(what: str, experiment: Path, models: Mapping[str, Path], *places: Path) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as known:
        json.dump({name: str(place) for name, place in models.items()}, known)
        known.flush()
        command = [sys.executable, "-I", "-m", "mama.training.global_model", what]
        ended = subprocess.run(
            [*command, *(str(p.resolve()) for p in (experiment, Path(known.name), *places))],
            capture_output=True,
            text=True,
            encoding="utf-8",
            preexec_fn=die_with_parent,
        )
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or ["ended without a word"]
        kind = ModelError if ended.returncode == ModelError.exit_code else MamaError
        raise kind(said[-1])
