"""The global model at the start and at the end of a run.

A coordinator's server, which holds no tower itself, runs this file as a program of its own:

    python -m mama.global_model start EXPERIMENT.yaml MODELS.json START.safetensors
    python -m mama.global_model finish EXPERIMENT.yaml MODELS.json CHECKPOINT.safetensors FINAL

MODELS.json maps names of base models to local folders or files.
"""

import json
import sys
from pathlib import Path

import torch

from mama.checkpoint import save_tensors
from mama.config import Experiment
from mama.configfile import load
from mama.earlier import earlier_model
from mama.errors import MamaError, ModelError, ProtocolError
from mama.exchange.coding import decode
from mama.exchange.fingerprint import describe
from mama.exchange.method import initial_arrays, split
from mama.exchange.tensors import put_trained
from mama.export import save_final
from mama.model import build_model
from mama.start import start_from


def start(experiment: Experiment, models: dict[str, Path], out: Path) -> None:
    """Write the trained tensors of a fresh model, with its description."""
    model = build_model(experiment, models)
    start_from(model, experiment, models)
    arrays = initial_arrays(model, experiment.federation)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    save_tensors(out, tensors, describe(model).model_dump())


def finish(experiment: Experiment, models: dict[str, Path], checkpoint: Path, final: Path) -> None:
    """Write the whole model whose trained tensors a checkpoint holds."""
    model = build_model(experiment, models)
    try:
        trained, _ = split(decode(checkpoint.read_bytes()))
    except (OSError, ProtocolError) as error:
        raise ModelError(
            f"the checkpoint cannot be read ({type(error).__name__})", where=str(checkpoint)
        ) from None
    put_trained(model, trained, experiment.federation.local)
    save_final(final, model, experiment)


def main(arguments: list[str]) -> None:
    """Run one of the two; a MamaError is its message on stderr and its exit code."""
    what, experiment, models, *places = arguments
    known = {
        name: Path(place)
        for name, place in json.loads(Path(models).read_text(encoding="utf-8")).items()
    }
    try:
        given: list[str] = []
        if what == "start":
            given, earlier = earlier_model(Path(experiment))
            known |= earlier
        wanted = load(Experiment, Path(experiment), given, without=["simulation"])
        if what == "start":
            start(wanted, known, Path(places[0]))
        else:
            finish(wanted, known, Path(places[0]), Path(places[1]))
    except MamaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
