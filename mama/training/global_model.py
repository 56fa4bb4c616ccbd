"""Build the initial and export the final global model.

A coordinator's server, which never loads a tower, runs this module as a subprocess:

    python -m mama.training.global_model start EXPERIMENT.yaml MODELS.json START.safetensors
    python -m mama.training.global_model finish EXPERIMENT.yaml MODELS.json CHECKPOINT FINAL
    python -m mama.training.global_model finish-licensed ...

The last is `finish` for a model of data whose licence lets no weights be shared.
MODELS.json maps names of base models to local folders or files.
"""

import json
import sys
from pathlib import Path

from mama.config import Experiment
from mama.config.earlier import earlier_model
from mama.config.load import load
from mama.errors import MamaError, ModelError, ProtocolError
from mama.system.processes import importing

with importing():
    import torch

    from mama.exchange.codecs.coding import decode
    from mama.exchange.fingerprint import describe
    from mama.exchange.tensors import put_trained
    from mama.exchange.update import Update, initial_arrays
    from mama.final.saved import save_final
    from mama.model import build_model
    from mama.system.tensors import save_tensors
    from mama.training.warm_start import start_from


def start(experiment: Experiment, models: dict[str, Path], out: Path) -> None:
    """Write the trained tensors of a new model with its description."""
    model = build_model(experiment, models)
    start_from(model, experiment, models)
    arrays = initial_arrays(model, experiment.strategy)
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    save_tensors(out, tensors, describe(model).model_dump())


def finish(
    experiment: Experiment,
    models: dict[str, Path],
    checkpoint: Path,
    final: Path,
    *,
    share_weights: bool = True,
) -> None:
    """Write the complete model for the trained tensors of a checkpoint."""
    model = build_model(experiment, models)
    try:
        trained = Update.of(decode(checkpoint.read_bytes())).model
    except (OSError, ProtocolError) as error:
        raise ModelError(
            f"the checkpoint cannot be read ({type(error).__name__})", where=str(checkpoint)
        ) from None
    put_trained(model, trained, experiment.strategy.local)
    save_final(final, model, experiment, share_weights=share_weights)


def main(arguments: list[str]) -> None:
    """Run one of the commands; print a MamaError to stderr and exit with its code."""
    command, experiment, models, *places = arguments
    known = {
        name: Path(place)
        for name, place in json.loads(Path(models).read_text(encoding="utf-8")).items()
    }
    try:
        given: list[str] = []
        if command == "start":
            given, earlier = earlier_model(Path(experiment))
            known |= earlier
        wanted = load(Experiment, Path(experiment), given, without=["simulation"])
        if command == "start":
            start(wanted, known, Path(places[0]))
        else:
            share = command != "finish-licensed"
            finish(wanted, known, Path(places[0]), Path(places[1]), share_weights=share)
    except MamaError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main(sys.argv[1:])
