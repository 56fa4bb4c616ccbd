"""Runs of a federation that is up: one after the other, beside another federation, masked, and without enough sites."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mama.errors import QuorumError
from sim.run import federate
from tests.deployment.test_box import with_one_thread

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_two_federations_work_at_once_on_one_host(federation: Any, another_federation: Any) -> None:
    large = federation.start("federation.rounds=2")
    small = another_federation.start("federation={rounds: 2, local_steps: 2, quorum: 1}")
    for run, sites in ((large, ["alder", "birch", "cedar"]), (small, ["birch"])):
        metrics = run.finish()
        assert metrics["sites"] == sites
        assert metrics["problems"] == []


def test_updates_that_the_coordinator_does_not_see_add_up_to_the_same_model(
    federation: Any, small_config: Any, made_sites: Path, tmp_path: Path
) -> None:
    federation.wait_until_serving()
    quorum = "federation={rounds: 1, local_steps: 2, quorum: 3}"
    run = federation.start(quorum, "privacy.secure={threshold: 2, bits: 24, limit: 0.5}")
    files = with_one_thread(made_sites, tmp_path / "hospitals")
    federate(small_config(quorum).experiment(), files, tmp_path / "plain")
    assert run.finish()["problems"] == []
    plain, masked = (
        load_file(folder / "final" / "model.safetensors")
        for folder in (tmp_path / "plain", run.folder.path)
    )
    for name, tensor in plain.items():
        torch.testing.assert_close(masked[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_too_few_sites_end_a_run_as_in_the_simulation(federation: Any) -> None:
    federation.wait_until_serving()
    run = federation.start("federation={rounds: 2, local_steps: 2, quorum: 4}")
    run.thread.join(240)
    assert isinstance(run.error, QuorumError)
    assert "3 of at least 4 sites answered" in str(run.error)
    metrics = json.loads((run.folder.path / "metrics.json").read_text())
    assert metrics["status"] == "stopped"
    assert (run.folder.path / "report.html").is_file()
