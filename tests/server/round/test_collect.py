"""Norm of an update: the model's own tensors count, against rounds that trained as many."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mama.errors import ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import encode
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Answer, Task
from mama.exchange.update import VARIATE
from server.round.collect import UpdateCollector
from server.round.sites import Delivery
from server.round.transport import Reply
from server.run.site_history import SiteHistory
from tests.server.faults import small_experiment

SHAPES = {"head": (4,), "tower": (100,)}
SPENT = TrainingMetrics(studies=5, patients=5, steps=4, skipped=0, seconds=1, terms={})


def folding(
    number: int, memory: SiteHistory, folder: Path, shapes: Any, **federation: Any
) -> UpdateCollector:
    experiment = small_experiment(**federation)
    return UpdateCollector(experiment, number, shapes, memory, 3, folder / "scratch")


def arrival(number: int, update: Arrays, site: str = "alder") -> Delivery:
    place = {"run": "r", "round": number, "task": f"t{number}"}
    task = Task(kind="train", experiment="{}", experiment_hash="0" * 64, **place)
    answer = Answer(site=site, status="ok", training=SPENT, **place)
    return Delivery(site, task, Reply(answer, encode(update)), "on_time", 0)


def ones(shapes: Any, length: float = 1.0) -> Arrays:
    return {n: np.full(s, length / np.prod(s) ** 0.5, np.float32) for n, s in shapes.items()}


def test_tensors_that_thaw_are_not_measured_by_the_length_of_the_others(tmp_path: Path) -> None:
    freeze = {"freeze": [{"pattern": "tower", "until_round": 3}], "rounds": 9}
    memory = SiteHistory(model_norm=10.0)
    for number, update in (
        (1, ones({"head": (4,)}, 0.01)),
        (2, ones({"head": (4,)}, 0.01)),
        (3, ones(SHAPES)),
    ):
        one = folding(number, memory, tmp_path, SHAPES, **freeze)
        one.take(arrival(number, update))
        one.remember()
    assert memory.norms == [pytest.approx(2**0.5)]
    later = folding(4, memory, tmp_path, SHAPES, **freeze)
    with pytest.raises(ProtocolError, match="10 times as long as usual, above 9"):
        folding(4, memory, tmp_path, SHAPES, norm_limit=9, **freeze).take(
            arrival(4, ones(SHAPES, 10))
        )
    later.take(arrival(4, ones(SHAPES)))


def test_variates_do_not_lengthen_an_update_and_are_bounded(tmp_path: Path) -> None:
    shapes = SHAPES | {VARIATE + name: shape for name, shape in SHAPES.items()}
    memory = SiteHistory(norms=[2**0.5])

    def sent(variates: float) -> Delivery:
        theirs = ones(SHAPES, variates)
        return arrival(1, ones(SHAPES) | {VARIATE + name: a for name, a in theirs.items()})

    one = folding(1, memory, tmp_path, shapes, scaffold=True)
    one.take(sent(1e4))
    assert one.norms["alder"] == pytest.approx(2**0.5)
    with pytest.raises(ProtocolError, match="beyond reason"):
        one.take(sent(1e7))
