"""Difference attack: two experiments from one model, one of them a step longer.

The measure is the cosine between the difference of the two updates and the last step that the site
took.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from client.handlers import answer
from client.site.config import load_site
from client.training import tasks
from mama.config import Experiment
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.protocol import Task
from mama.exchange.update import initial_arrays
from mama.model import build_model
from sim.config import SimulatedExperiment

Ask = Callable[[Path, Experiment], np.ndarray]


@pytest.fixture
def experiments(small_config: Callable[..., SimulatedExperiment]) -> dict[int, Experiment]:
    """By local steps; the same model, batches and learning rate."""
    return {
        steps: small_config(
            f"federation.local_steps={steps}", f"federation.rounds={12 // steps}"
        ).experiment()
        for steps in (2, 3)
    }


@pytest.fixture
def ask(experiments: dict[int, Experiment]) -> Ask:
    model = encode(initial_arrays(build_model(experiments[2]), experiments[2].strategy))

    def update(path: Path, experiment: Experiment, run: str = "") -> np.ndarray:
        task = Task(
            run=run or f"run-{experiment.federation.local_steps}",
            round=1,
            task="train-1",
            kind="train",
            experiment=experiment.canonical_json(),
            experiment_hash=experiment.hash(),
        )
        reply, block = answer(load_site(path), task.encode(), model)
        assert reply.status == "ok"
        return np.concatenate([a.ravel() for _, a in sorted(decode(block).items())])

    return update


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def last_step(path: Path, ask: Any, experiment: Experiment) -> np.ndarray:
    """The step itself, from a copy of the site that stops before it."""
    copy = path.parent.with_name("shorter") / path.name
    shutil.copytree(path.parent, copy.parent)
    settings = yaml.safe_load(copy.read_text())
    settings["policy"]["max_round_steps"] = experiment.federation.local_steps - 1
    copy.write_text(yaml.safe_dump(settings))
    return ask(path, experiment, "truth") - ask(copy, experiment, "truth")


def test_the_difference_of_two_experiments_is_no_step(
    site_files: Callable[..., list[Path]], experiments: dict[int, Experiment], ask: Ask
) -> None:
    path = site_files()[0]
    shorter, longer = ask(path, experiments[2]), ask(path, experiments[3])
    assert abs(cosine(longer - shorter, last_step(path, ask, experiments[3]))) < 0.8


def test_over_the_same_batches_it_is_the_last_step(
    site_files: Callable[..., list[Path]],
    experiments: dict[int, Experiment],
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The attack, with the defence switched off."""
    monkeypatch.setattr(tasks, "stream_of", lambda site, *_: site.site)
    path = site_files()[0]
    shorter, longer = ask(path, experiments[2]), ask(path, experiments[3])
    assert cosine(longer - shorter, last_step(path, ask, experiments[3])) > 0.99


def test_an_experiment_is_repeated_to_the_bit(
    site_files: Callable[..., list[Path]], experiments: dict[int, Experiment], ask: Any
) -> None:
    """The first of a seed is equal on every machine; repeats of a later one are equal too."""
    here, there = site_files("here")[0], site_files("there")[0]
    first, later = ask(here, experiments[2]), ask(here, experiments[3])
    assert np.array_equal(ask(there, experiments[2]), first)
    assert np.array_equal(ask(here, experiments[3], "again"), later)
    assert not np.array_equal(ask(site_files("new")[0], experiments[3]), later)


def test_a_damaged_record_is_no_record(
    site_files: Callable[..., list[Path]], experiments: dict[int, Experiment], ask: Any
) -> None:
    path = site_files()[0]
    ask(path, experiments[2])
    record = load_site(path).privacy / "seeds.json"
    record.write_text(record.read_text().replace("0", "1", 1))
    with pytest.raises(AssertionError, match="records_damaged"):
        ask(path, experiments[3])
