"""Answers to the waves of secure aggregation: once, for the site's own round and terms."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.errors import RefusedError
from client.policy.approval import Approvals
from client.secagg.unmasked import UnmaskedSums
from client.secagg.waves import answer_wave, basis_of, keep_update
from client.site.config import SiteFile, load_site
from mama.config import Experiment
from mama.errors import ConfigError, PrivacyError, ProtocolError, TrainingError
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Task
from mama.exchange.secagg.messages import Advertisement, Advertisements, Basis, Terms
from sim.engines.keys import introduce

MODEL = "f" * 64
METRICS = TrainingMetrics(studies=7, patients=6, steps=2, skipped=0, seconds=1, terms={})
UPDATE = {"w": np.full(3, 0.01, np.float32), "scale": np.float32(0.02)}


@pytest.fixture
def masked(small_config: Callable[..., Any]) -> Experiment:
    return small_config("privacy.secure={threshold: 2, bits: 20, limit: 0.5}").experiment()


@pytest.fixture
def sites(site_files: Callable[..., list[Path]]) -> list[SiteFile]:
    files = site_files("sites")
    introduce({path.parent.name: path for path in files})
    return [load_site(path) for path in files]


@pytest.fixture
def ask(make_task: Callable[..., Task], masked: Experiment) -> Callable[..., bytes]:
    """Ask a site for a wave of a round."""

    def wave(site: SiteFile, kind: str, payload: bytes = b"", number: int = 1) -> bytes:
        return answer_wave(site, masked, make_task(kind, of=masked, round=number), payload)

    return wave


def terms(task: Task, **changed: Any) -> bytes:
    values = {"context": f"{task.run}/{task.round}/one", "threshold": 2, "bits": 20, "limit": 0.5}
    return Terms.model_validate(values | changed).model_dump_json().encode()


def test_terms_are_those_of_the_round_and_the_experiment(
    sites: list[SiteFile], masked: Experiment, make_task: Any, ask: Any
) -> None:
    task, one = make_task(of=masked), sites[0]
    with pytest.raises(ProtocolError, match="no whole update"):
        ask(one, "advertise", terms(task))
    keep_update(one, masked, task, MODEL, UPDATE, METRICS)
    for changed in (
        {"threshold": 3},
        {"bits": 19},
        {"limit": 0.25},
        {"context": f"{task.run}/2/one"},
        {"context": f"other/{task.round}/one"},
    ):
        with pytest.raises(ProtocolError):
            ask(one, "advertise", terms(task, **changed))
    later = make_task(of=masked, round=2)
    with pytest.raises(ProtocolError, match="no update of this round"):
        ask(one, "advertise", terms(later), number=2)
    said = Advertisement.model_validate_json(ask(one, "advertise", terms(task)))
    assert (said.site, said.weight) == (one.site, 7.0)


def test_messages_that_do_not_follow_the_protocol(
    sites: list[SiteFile], masked: Experiment, make_task: Any, ask: Any
) -> None:
    keep_update(sites[0], masked, make_task(of=masked), MODEL, UPDATE, METRICS)
    for kind in ("advertise", "share", "mask", "agree", "unmask"):
        for payload in (b"", b"{}", b"\xff", b"[" * 10_000):
            with pytest.raises(ProtocolError):
                ask(sites[0], kind, payload)


def test_beginning_anew_makes_new_keys_and_forgets_the_old(
    sites: list[SiteFile], masked: Experiment, make_task: Any, ask: Any
) -> None:
    task = make_task(of=masked)
    for site in sites:
        keep_update(site, masked, task, MODEL, UPDATE, METRICS)
    first, second = (
        [Advertisement.model_validate_json(ask(site, "advertise", terms(task))) for site in sites]
        for _ in range(2)
    )
    agreed = Terms.model_validate_json(terms(task))
    assert not {said.mask_key for said in first} & {said.mask_key for said in second}
    old, new = (
        Advertisements(terms=agreed, sites=said).model_dump_json().encode()
        for said in (first, second)
    )
    with pytest.raises(ProtocolError, match="missing"):
        ask(sites[0], "share", old)
    ask(sites[0], "share", new)


def test_a_round_that_was_unmasked_is_over(
    sites: list[SiteFile], masked: Experiment, make_task: Any, ask: Any
) -> None:
    task, one = make_task(of=masked), sites[0]
    keep_update(one, masked, task, MODEL, UPDATE, METRICS)
    UnmaskedSums(one).remember(basis_of(task, MODEL))
    with pytest.raises(RefusedError, match="unmasked already"):
        ask(one, "advertise", terms(task))


def test_a_wave_names_the_experiment_that_was_trained(
    sites: list[SiteFile], masked: Experiment, make_task: Any, small_config: Any
) -> None:
    keep_update(sites[0], masked, make_task(of=masked), MODEL, UPDATE, METRICS)
    secure = "privacy.secure={threshold: 2, bits: 20, limit: 0.5}"
    other = small_config(secure, "optimiser.lr=1e-30").experiment()
    task = make_task("advertise", of=other)
    with pytest.raises(ProtocolError, match="another experiment"):
        answer_wave(sites[0], other, task, terms(task))


@pytest.mark.parametrize(
    ("changed", "refused"),
    [
        ({}, False),  # the same run trains its round again; its waves are refused
        ({"run": "run-2"}, True),
        ({"run": "run-2", "model": "a" * 64}, True),
        ({"run": "run-2", "round": 2}, True),
        ({"run": "run-2", "experiment": "b" * 64}, True),  # another name of the same training
        ({"experiment": "b" * 64}, True),
        ({"run": "run-2", "experiment": "b" * 64, "model": "a" * 64}, False),
        ({"round": 2}, False),
    ],
)
def test_a_second_run_over_the_same_training_needs_approval(
    sites: list[SiteFile], monkeypatch: Any, changed: dict[str, Any], refused: bool
) -> None:
    known = Basis(experiment="e" * 64, model=MODEL, run="run-1", round=1)
    sums, again = UnmaskedSums(sites[0]), known.model_copy(update=changed)
    sums.remember(known)
    shutil.rmtree(sites[0].state)  # the record outlasts the run's folder
    if not refused:
        sums.require_new(again)
        return
    with pytest.raises(RefusedError) as error:
        sums.require_new(again)
    assert error.value.code == ErrorCode.SECURE_REPEATED
    monkeypatch.setattr(Approvals, "runs", lambda self, digest: 2)
    sums.require_new(again)


@pytest.mark.parametrize("damage", ["flip", "half", "line", "empty", "gone", "binary"])
def test_a_damaged_record_fails_closed(sites: list[SiteFile], damage: str) -> None:
    sums = UnmaskedSums(sites[0])
    bases = [
        Basis(experiment="e" * 64, model=MODEL, run="run-1", round=number) for number in (1, 2)
    ]
    for basis in bases:
        sums.remember(basis)
    data = bytearray(sums.path.read_bytes())
    flipped = bytes(data[:70]) + bytes([data[70] ^ 1]) + bytes(data[71:])
    damaged = {
        "flip": flipped,
        "half": data[: len(data) // 2],
        "line": data[: data.index(b"\n") + 1],
        "empty": b"",
        "binary": b"\xff\xfe",
    }
    if damage == "gone":
        sums.path.unlink()
    else:
        sums.path.write_bytes(damaged[damage])
    with pytest.raises(PrivacyError, match="record of unmasked sums"):
        sums.require_new(bases[1])


def test_an_update_that_is_not_finite_is_not_kept(
    sites: list[SiteFile], masked: Experiment, make_task: Any
) -> None:
    with pytest.raises(TrainingError):
        keep_update(
            sites[0], masked, make_task(of=masked), MODEL, {"w": np.full(2, np.nan)}, METRICS
        )


def test_a_site_without_a_signed_roster_has_no_peers(
    sites: list[SiteFile], masked: Experiment, ask: Any
) -> None:
    one, other = sites[:2]
    assert one.peers
    assert other.peers
    text = one.peers.roster.read_text()
    one.peers.roster.write_text(text.replace(other.site, "yew"))
    with pytest.raises(ConfigError, match="signed"):
        ask(one, "advertise")
    one.peers.roster.write_text(text)
    one.peers.key.write_bytes(other.peers.key.read_bytes())
    with pytest.raises(ConfigError, match="does not have this site's key"):
        ask(one, "advertise")
    with pytest.raises(ConfigError, match="signed"):
        ask(one.model_copy(update={"peers": None}), "advertise")
