"""Runs of a running federation: in turn, beside another federation, masked, without quorum."""

import json
import stat
from typing import Any

import pytest
import torch

from client.service.reporter import DUE, PAGE
from client.site.config import load_site
from mama.errors import QuorumError
from mama.system.tensors import load_tensors
from server.run.checkpoint import read_checkpoint
from tests.waiting import wait_for

pytestmark = pytest.mark.slow


def test_two_federations_work_at_once_on_one_host(federation: Any, another_federation: Any) -> None:
    large = federation.start("federation.rounds=2")
    small = another_federation.start(
        "federation={rounds: 2, local_steps: 2}", "participation.quorum=1"
    )
    for run, sites in ((large, ["alder", "birch", "cedar"]), (small, ["birch"])):
        metrics = run.finish()
        assert metrics["sites"] == sites
        assert metrics["problems"] == []


def test_updates_that_the_coordinator_does_not_see_add_up_to_its_model(federation: Any) -> None:
    federation.wait_until_serving()
    run = federation.start(
        "federation={rounds: 1, local_steps: 2}",
        "participation.quorum=3",
        "privacy.secure={threshold: 2, bits: 24, limit: 0.5}",
    )
    assert run.finish()["problems"] == []
    first, last = map(read_checkpoint, run.folder.checkpoints())
    assert (first.round, last.round) == (0, 1)
    # What each site masked stays in its own folder. Its batches are its own too: no other run
    # repeats an update.
    folders = [load_site(path).run_folder(first.run) for path in federation.box.sites.values()]
    kept = [load_tensors(folder / "secure/update.safetensors") for folder in folders]
    total = sum(state["weight"] for _, state in kept)
    assert len(kept) == 3
    assert not torch.equal(*(updates["image_projection.weight"] for updates, _ in kept[:2]))
    for name, array in last.arrays.items():
        mean = sum(updates[name] * (state["weight"] / total) for updates, state in kept)
        change = torch.as_tensor(array - first.arrays[name])
        torch.testing.assert_close(change, mean, rtol=0, atol=1e-5, msg=name)


def test_every_site_writes_its_report_when_the_run_has_ended(federation: Any) -> None:
    federation.wait_until_serving()
    run = federation.start(
        "federation={rounds: 1, local_steps: 2}", "participation.quorum=3"
    ).finish()["run"]
    for name, path in federation.box.sites.items():
        page = load_site(path).run_folder(run) / PAGE
        wait_for(page.exists, f"the report of {name}")
        assert stat.S_IMODE(page.stat().st_mode) == 0o600
        assert "final model − round 0" in page.read_text(encoding="utf-8")
        due = page.parents[1]  # earlier tests' runs may have reports due, too
        wait_for(lambda due=due: not [*due.glob(f"*/{DUE}")], "the marks to go")
        status = federation.status(name)
        assert (status.report, status.warnings) == (str(page), [])


def test_too_few_sites_end_a_run_as_in_the_simulation(federation: Any) -> None:
    federation.wait_until_serving()
    run = federation.start("federation={rounds: 2, local_steps: 2}", "participation.quorum=4")
    run.thread.join(240)
    assert isinstance(run.error, QuorumError)
    assert "3 of at least 4 sites answered" in str(run.error)
    metrics = json.loads((run.folder.path / "metrics.json").read_text())
    assert metrics["status"] == "stopped"
    assert (run.folder.path / "report.html").is_file()
