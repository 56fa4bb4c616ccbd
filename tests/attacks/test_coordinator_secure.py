"""A coordinator that looks for one site's update in the sums of secure aggregation.

The measure is the cosine between its estimate and the true update of the site, alder. It may always
have the mean that the protocol gives it, so an estimate is a finding if it is nearer than that
mean.
"""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
import yaml
from safetensors.numpy import load_file

from client.handlers import answer
from client.policy.approval import Approvals
from client.secagg.unmasked import UnmaskedSums
from client.site.config import load_site
from mama.config import Experiment
from mama.errors import QuorumError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import digest_of
from mama.exchange.codecs.coding import encode
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task
from mama.exchange.secagg.messages import Advertisement, Basis
from mama.exchange.update import exchanged_shapes, initial_arrays
from mama.model import build_model
from server.secagg.protocol import secure_mean
from server.secagg.secure_sum import SecureSum
from sim.engines.keys import introduce

SECURE = "privacy.secure={threshold: 3, bits: 24, limit: 0.5}"
QUORUM = "participation.quorum=3"
# What else would give an update where both scales are shut.
BARE = ["optimiser.weight_decay=0", "loss.image_image.weight=0"]
VICTIM, OTHERS = "alder", ["birch", "cedar", "dogwood"]
EVERYONE = [VICTIM, *OTHERS]
PLAIN: Mapping[str, Any] = MappingProxyType({})


class _Careless(SecureSum):
    """A hostile coordinator's end: it takes whatever the sites trained."""

    def join(self, site: str, said: Advertisement) -> None:
        self.basis = said.basis
        super().join(site, said)


class Coordinator:
    """Rounds with real sites, each of which may get another experiment, model, run or round.

    `refused` has the codes of answers that were none, by site.
    """

    def __init__(self, files: Mapping[str, Path], experiment: Experiment):
        self.files, self.experiment = files, experiment
        built = build_model(experiment)
        self.model = initial_arrays(built, experiment.strategy)
        self.shapes = exchanged_shapes(built, experiment.strategy)
        self.refused: dict[str, ErrorCode] = {}

    def train(
        self, run: str, sites: Collection[str], others: Mapping[str, Any] = PLAIN
    ) -> dict[str, float]:
        """Have sites train the first round; returns the weights of those that did.

        Args:
            others: what of the task is another one for all but the victim.
        """
        weights = {}
        for site in sites:
            asked = {"experiment": self.experiment, "model": self.model, "run": run, "round": 1}
            asked |= {} if site == VICTIM else others
            reply, _ = self._ask(site, "train", encode(asked.pop("model")), **asked)
            if reply.training:
                weights[site] = reply.training.weight(self.experiment.strategy.weights)
        return weights

    def unmask(
        self,
        run: str,
        weights: Mapping[str, float],
        others: Mapping[str, Any] = PLAIN,
        *,
        same: bool = True,
    ) -> Arrays:
        """The sum of the sites' updates, by the waves.

        Args:
            same: name the victim's experiment in everyone's waves, not the one that each trained.

        Raises:
            QuorumError: too few sites took part.
        """
        hidden = {"model", "experiment"} if same else {"model"}
        named = {key: value for key, value in others.items() if key not in hidden}

        def ask(kind: Any, payloads: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
            for site, payload in payloads.items():
                asked = {"experiment": self.experiment, "run": run, "round": 1}
                asked |= {} if site == VICTIM else named
                reply, said = self._ask(site, kind, payload, **asked)
                if reply.status == "ok":
                    yield site, said

        agreed = self.experiment.privacy.secure
        assert agreed is not None
        digest = self.experiment.hash()
        basis = Basis(experiment=digest, model=digest_of(encode(self.model)), run=run, round=1)
        mean, sites = secure_mean(agreed, basis, self.shapes, weights, ask, lambda *_: None)
        return {name: len(sites) * array for name, array in mean.items()}

    def _ask(
        self, site: str, kind: Any, payload: bytes, *, experiment: Experiment, run: str, round: int
    ) -> tuple[Answer, bytes]:
        task = Task(
            run=run,
            round=round,
            task=f"{kind}-{round}",
            kind=kind,
            experiment=experiment.canonical_json(),
            experiment_hash=experiment.hash(),
        )
        reply, said = answer(load_site(self.files[site]), task.encode(), payload)
        if isinstance(reply.status, ErrorCode):
            self.refused[site] = reply.status
        return reply, said


@pytest.fixture(autouse=True)
def _careless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.secagg.protocol.SecureSum", _Careless)


@pytest.fixture
def files(site_files: Callable[..., list[Path]]) -> dict[str, Path]:
    """Four sites that know each other; the fourth has the third one's studies."""
    found = site_files("sites")
    fourth = shutil.copytree(found[2].parent, found[2].parent.with_name("dogwood"))
    settings = yaml.safe_load((fourth / "site.yaml").read_text())
    (fourth / "site.yaml").write_text(yaml.safe_dump(settings | {"site": "dogwood"}))
    sites = {path.parent.name: path for path in [*found, fourth / "site.yaml"]}
    introduce(sites)
    return sites


@pytest.fixture
def coordinator(files: dict[str, Path], small_config: Callable[..., Any]) -> Coordinator:
    return Coordinator(files, small_config(SECURE, QUORUM, *BARE).experiment())


def true_update(coordinator: Coordinator, run: str) -> Arrays:
    """The victim's own update, which the coordinator never has: the truth to compare with."""
    folder = load_site(coordinator.files[VICTIM]).run_folder(run)
    return load_file(folder / "secure" / "update.safetensors")


def cosine(one: Arrays, other: Arrays) -> float:
    a, b = (
        np.concatenate([x[n].ravel().astype(float) for n in sorted(other)]) for x in (one, other)
    )
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def less(one: Arrays, other: Arrays) -> Arrays:
    return {name: one[name] - other[name] for name in one}


def switch_off_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(UnmaskedSums, "_require_open", lambda *_: None)
    monkeypatch.setattr(UnmaskedSums, "_require_new", lambda *_: None)


def switch_off_salt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("client.training.tasks.stream_of", lambda site, *_: site.site)


def switch_off_basis(monkeypatch: pytest.MonkeyPatch, experiment: Experiment) -> None:
    def one_for_all(task: Task, model: str) -> Basis:
        return Basis(experiment=experiment.hash(), model="0" * 64, run=task.run, round=task.round)

    monkeypatch.setattr("client.secagg.waves.basis_of", one_for_all)


def by_two_runs(coordinator: Coordinator) -> tuple[float, float]:
    """With the victim, then without: the cosines of the difference and of the first run's sum."""
    first = coordinator.unmask("run-1", coordinator.train("run-1", EVERYONE))
    second = coordinator.unmask("run-2", coordinator.train("run-2", OTHERS))
    true = true_update(coordinator, "run-1")
    return cosine(less(first, second), true), cosine(first, true)


def silent(coordinator: Coordinator, way: str, make: Callable[..., Any]) -> dict[str, Any]:
    """A task that gives an update of nothing."""
    if way == "experiment":
        return {"experiment": make(SECURE, QUORUM, *BARE, "optimiser.lr=1e-30").experiment()}
    scales = {n: a - 80 for n, a in coordinator.model.items() if n.endswith("_scale")}
    assert len(scales) == 2
    return {"model": coordinator.model | {n: np.asarray(a, np.float32) for n, a in scales.items()}}


def test_two_runs_of_one_experiment_are_refused(coordinator: Coordinator) -> None:
    with pytest.raises(QuorumError):
        by_two_runs(coordinator)
    assert coordinator.refused == dict.fromkeys(OTHERS, ErrorCode.SECURE_REPEATED)


@pytest.mark.slow
def test_two_runs_give_one_update_without_record_and_salt(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch_off_record(monkeypatch)
    switch_off_salt(monkeypatch)
    assert by_two_runs(coordinator)[0] > 0.999


@pytest.mark.slow
def test_two_approved_runs_say_less_than_one(coordinator: Coordinator) -> None:
    for path in coordinator.files.values():
        Approvals(load_site(path)).approve(coordinator.experiment.hash(), runs=2)
    estimate, mean = by_two_runs(coordinator)
    assert not coordinator.refused
    print(f"cosine of the estimate {estimate:.3f}, of the mean {mean:.3f}")
    assert abs(estimate) < mean


@pytest.mark.slow
@pytest.mark.parametrize("way", ["experiment", "model"])
def test_peers_of_other_training_give_one_update_without_the_basis(
    coordinator: Coordinator,
    small_config: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
) -> None:
    switch_off_basis(monkeypatch, coordinator.experiment)
    others = silent(coordinator, way, small_config)
    found = coordinator.unmask("run-1", coordinator.train("run-1", EVERYONE, others), others)
    assert cosine(found, true_update(coordinator, "run-1")) > 0.999


@pytest.mark.parametrize("same", [True, False])
@pytest.mark.parametrize("way", ["experiment", "model"])
def test_peers_of_other_training_are_refused(
    coordinator: Coordinator, small_config: Callable[..., Any], way: str, same: bool
) -> None:
    others = silent(coordinator, way, small_config)
    weights = coordinator.train("run-1", EVERYONE, others)
    assert set(weights) == set(EVERYONE)
    with pytest.raises(QuorumError):
        coordinator.unmask("run-1", weights, others, same=same)
    # The victim gives no shares to such peers; those asked for a wave of what they did not train
    # say no before.
    if way == "model" or not same:
        assert coordinator.refused[VICTIM] == ErrorCode.SECURE_PEERS
    else:
        assert coordinator.refused == dict.fromkeys(OTHERS, ErrorCode.BAD_REQUEST)


@pytest.mark.parametrize("others", [{"run": "run-x"}, {"round": 2}])
def test_peers_of_another_run_or_round_are_refused(
    coordinator: Coordinator, others: dict[str, Any]
) -> None:
    weights = coordinator.train("run-1", EVERYONE, others)
    assert set(weights) == set(EVERYONE)
    with pytest.raises(QuorumError):
        coordinator.unmask("run-1", weights, others)
    assert coordinator.refused == dict.fromkeys(OTHERS, ErrorCode.BAD_REQUEST)


def by_restored_state(coordinator: Coordinator) -> Arrays:
    """All sites' state as it was before the waves, which begin anew without the victim."""
    weights = coordinator.train("run-1", EVERYONE)
    states = [load_site(path).state for path in coordinator.files.values()]
    for state in states:
        shutil.copytree(state, state.with_name("backup"))
    first = coordinator.unmask("run-1", weights)
    for state in states:
        shutil.rmtree(state)
        shutil.copytree(state.with_name("backup"), state)
    return less(first, coordinator.unmask("run-1", {site: weights[site] for site in OTHERS}))


def test_a_restored_state_folder_unmasks_no_round_twice(coordinator: Coordinator) -> None:
    with pytest.raises(QuorumError):
        by_restored_state(coordinator)
    assert coordinator.refused == dict.fromkeys(OTHERS, ErrorCode.SECURE_REPEATED)


@pytest.mark.slow
def test_a_restored_state_folder_gives_one_update_without_the_record(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch_off_record(monkeypatch)
    found = by_restored_state(coordinator)
    assert cosine(found, true_update(coordinator, "run-1")) > 0.999
