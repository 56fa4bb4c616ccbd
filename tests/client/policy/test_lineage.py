"""Lineage of models at a site: its own first, each near the one before, one per round."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.handlers import answer
from client.policy.approval import Approvals
from client.report.first_model import began_with
from client.site.config import SiteFile, load_site
from mama.exchange.codecs.block import digest_of
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.protocol import Answer, Task
from mama.system.sealed import read_sealed

Ask = Callable[..., Answer]


@pytest.fixture
def site(edit: Callable[..., Path]) -> SiteFile:
    return load_site(edit(policy={"max_model_step": 10.0}))


@pytest.fixture
def ask(site: SiteFile, make_task: Callable[..., Task], payload: bytes) -> Ask:
    def ask(model: bytes = payload, **header: Any) -> Answer:
        return answer(site, make_task(**header).encode(), model)[0]

    return ask


def moved(block: bytes, by: float, seed: int = 0) -> bytes:
    """A model as far from another one as `by` in every value."""
    random = np.random.default_rng(seed)
    signs = {n: random.choice((-1, 1), a.shape) for n, a in sorted(decode(block).items())}
    return encode({n: (a + by * signs[n]).astype(np.float32) for n, a in decode(block).items()})


def test_the_first_model_is_the_one_that_the_site_builds(ask: Ask, payload: bytes) -> None:
    assert ask(moved(payload, 1e-3)).status == "model_step"
    assert ask(moved(payload, 1e-9)).status == "ok"  # another processor's rounding
    assert ask().status == "model_step"  # the round has that model now


def test_one_planted_tensor_is_enough(ask: Ask, payload: bytes) -> None:
    for name, array in decode(payload).items():
        planted = decode(payload) | {name: np.zeros_like(array) + 0.5}
        assert ask(encode(planted)).status == "model_step", name
    assert ask().status == "ok"


def test_a_later_model_lies_near_the_last(ask: Ask, payload: bytes) -> None:
    assert ask().status == "ok"
    second = {"round": 2, "task": "train-2"}
    assert ask(moved(payload, 5.0), **second).status == "model_step"
    # Two steps at a learning rate of 3e-3 move a value by less than 6e-3; the mean of the sites
    # moves as far at most.
    assert ask(moved(payload, 3e-3), **second).status == "ok"
    assert ask(moved(payload, 3e-3, seed=1), **second).status == "model_step"
    assert ask(moved(payload, 3e-3), **second).status == "ok"


def test_no_planted_tensor_hides_behind_the_others(
    ask: Ask, site: SiteFile, payload: bytes
) -> None:
    """Each of these models lies within ten lengths of the site's whole update."""
    assert ask().status == "ok"
    norms = read_sealed(site.run_folder("run-1") / "lineage.json", "")["norms"]
    whole = float(np.hypot.reduce(list(norms.values())))
    model = decode(payload)
    values = sum(array.size for array in model.values())
    for name, array in model.items():
        planted = array + np.float32(5 * whole / np.sqrt(array.size))
        reply = ask(encode(model | {name: planted}), round=2, task="train-2")
        # What most of the update, or of the model, consists of may move so far.
        own = max(norms[name], whole * np.sqrt(array.size / values))
        assert (reply.status == "model_step") == (own < whole / 2), name


def test_missed_rounds_do_not_add_up_without_limit(
    edit: Callable[..., Path], small_config: Any, make_task: Any, payload: bytes
) -> None:
    site = load_site(edit(policy={"max_model_step": 10.0}))
    rounds = "federation={rounds: 100, local_steps: 2}", "participation.sites_per_round=0.02"
    many = small_config(*rounds).experiment()

    def late(model: bytes, run: str) -> str:
        task = make_task(of=many, round=100, task="train-100", run=run)
        return answer(site, task.encode(), model)[0].status

    # 99 rounds of two steps at 3e-3 would allow more than ten rounds do.
    assert late(moved(payload, 0.2), "far") == "model_step"
    assert late(moved(payload, 0.05), "near") == "ok"


@pytest.mark.parametrize("kind", ["evaluate", "finish"])
def test_a_model_to_evaluate_must_follow_too(ask: Ask, payload: bytes, kind: str) -> None:
    assert ask().status == "ok"
    header = {"kind": kind, "round": 1, "task": f"{kind}-1"}
    assert ask(moved(payload, 5.0), **header).status == "model_step"
    near = moved(payload, 1e-3)
    assert ask(near, **header).status == "ok"
    assert ask(moved(payload, 1e-3, seed=1), round=2, task="train-2").status == "model_step"
    assert ask(near, round=2, task="train-2").status == "ok"


def test_a_run_cannot_begin_late_with_planted_weights(ask: Ask, payload: bytes) -> None:
    late = {"round": 2, "task": "train-2", "run": "late"}
    assert ask(moved(payload, 1.0), **late).status == "model_step"
    assert ask(moved(payload, 1e-3), **late).status == "ok"


def test_no_round_beyond_the_plan(ask: Ask) -> None:
    assert ask(round=3, task="train-3").status == "policy_plan"
    assert ask(round=1000, task="evaluate-9", kind="evaluate").status == "policy_plan"


def test_a_person_may_name_a_model_or_join_a_run(
    ask: Ask, site: SiteFile, payload: bytes, experiment: Any
) -> None:
    other, digest = moved(payload, 1.0), experiment.hash()
    assert ask(other).status == "model_step"
    Approvals(site).approve(digest, model=digest_of(other))
    assert ask(other).status == "ok"
    assert ask(other, run="r2", round=2, task="train-2").status == "ok"
    far = moved(payload, 2.0)
    assert ask(far, run="r3", round=2, task="train-2").status == "model_step"
    Approvals(site).approve(digest, join="r3")
    assert ask(far, run="r3", round=2, task="train-2").status == "ok"


def test_where_a_run_began_is_kept_for_good(
    ask: Ask, site: SiteFile, payload: bytes, experiment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("client.policy.lineage.REMEMBERED", 1)
    other = moved(payload, 1.0)
    Approvals(site).approve(experiment.hash(), runs=2, model=digest_of(other))
    for run, first, origin in (("r1", payload, "built"), ("r2", other, "given")):
        assert began_with(site.run_folder(run)) == "unseen"
        for number in (1, 2):
            ask(first, run=run, round=number, task=f"train-{number}")
        known = read_sealed(site.run_folder(run) / "lineage.json", "")["models"]
        assert sorted(known) == ["0", "1"]
        assert began_with(site.run_folder(run)) == origin
    ask(payload, run="r3", round=2, task="train-2")
    assert began_with(site.run_folder("r3")) == "unseen"


def test_a_damaged_record_takes_no_model(ask: Ask, site: SiteFile) -> None:
    assert ask().status == "ok"
    record = site.run_folder("run-1") / "lineage.json"
    whole = record.read_bytes()
    for damage in (
        whole[: len(whole) // 2],
        b"[1, 2]",
        b"",
        b"\xff\xfe",
        whole.replace(b"0", b"1"),
    ):
        record.write_bytes(damage)
        assert ask(round=2, task="train-2").status != "ok"


def test_without_a_bound_any_model_is_taken(
    edit: Callable[..., Path], make_task: Callable[..., Task], payload: bytes
) -> None:
    """So the tests above can fail."""
    site = load_site(edit(policy={"max_model_step": None}))
    assert answer(site, make_task().encode(), moved(payload, 1.0))[0].status == "ok"
