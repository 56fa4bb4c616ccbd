"""TensorBoard curves: the figures of rounds and evaluations, and nothing for other events."""

from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from server.report.tensorboard import Curves
from tests.events import made

ROUND = {
    "event": "round", "round": 3, "terms": {"loss": 2.5, "local": 1.0}, "seconds": 4.0,
    "sites": {"a": {}, "b": {}}, "bytes_up": {"a": 10, "b": 5},
}  # fmt: skip
EVALUATION = {
    "event": "evaluation",
    "round": 3,
    "federated": {
        "zero_shot": {
            "density": {"auc": 0.75, "balanced_accuracy": 0.5},
            "suspicious": {"auc": None, "balanced_accuracy": None, "reason": "too few"},
        }
    },
}


def test_figures_become_scalars(tmp_path: Path) -> None:
    curves = Curves(tmp_path)
    for event in ({"event": "start", "round": 0}, ROUND, EVALUATION):
        curves(made(event))
    curves.close()
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    found = {tag: [(s.step, s.value) for s in read.Scalars(tag)] for tag in read.Tags()["scalars"]}
    assert found == {
        "train/loss": [(3, 2.5)],
        "train/local": [(3, 1.0)],
        "round/seconds": [(3, 4.0)],
        "round/sites": [(3, 2.0)],
        "round/bytes_up": [(3, 15.0)],
        "zero_shot/density_auc": [(3, 0.75)],
        "zero_shot/density_balanced_accuracy": [(3, 0.5)],
    }


def test_a_run_without_figures_leaves_no_file(tmp_path: Path) -> None:
    curves = Curves(tmp_path / "tensorboard")
    curves(made({"event": "start", "round": 0}))
    curves.close()
    assert not (tmp_path / "tensorboard").exists()
