"""Operator's day over real processes: Prometheus, a revoked site, a rejection, a script."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.policy.approval import Approvals
from client.site.config import load_site
from mama.errors import QuorumError
from server.cli import main
from server.federation.roster import revoke
from server.report.status import status
from sim.engines.deployment import LocalDeployment
from tests.deployment.conftest import Federation
from tests.waiting import wait_for

pytestmark = pytest.mark.slow
SCRIPT = '#!/bin/sh\necho "$FEDMAMA_OUTCOME|$FEDMAMA_RUN|$FEDMAMA_REASON" > ended.txt\necho said\n'


@pytest.fixture
def pair(
    small_config: Callable[..., Any], made_sites: Path, tmp_path: Path
) -> Iterator[Federation]:
    """Two hospitals and a coordinator with a script for the end of a run."""
    box = LocalDeployment(tmp_path / "box")
    for site in ("alder", "birch"):
        shutil.copytree(made_sites / "sites" / site, tmp_path / site)
        path = tmp_path / site / "site.yaml"
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"threads": 1}))
        box.join(path)
    script = box.home.path.parent / "ended.sh"
    script.write_text(SCRIPT)
    script.chmod(0o700)
    settings = yaml.safe_load(box.home.path.read_text()) | {"on_end": ["./ended.sh"]}
    box.home.path.write_text(yaml.safe_dump(settings))
    with box.running():
        yield Federation(box, small_config, tmp_path)


def test_a_day(pair: Federation, command: Callable[..., Any]) -> None:
    home = pair.box.home

    def figures() -> str:
        ended = command(main, "metrics", "--federation", home.path)
        assert (ended.code, ended.err) == (0, "")
        return str(ended.out)

    pair.wait_until_serving()
    run = pair.start(
        "federation={rounds: 400, local_steps: 2}", "participation={quorum: 1, deadline_s: 120}"
    )
    run.wait_for_round(1)
    said = figures()
    for line in (
        f'fedmama_up{{federation="{home.file.name}"}} 1',
        'fedmama_site_online{site="birch"} 1',
        'fedmama_runs{state="running"} 1',
    ):
        assert line in said.splitlines()
    assert 'fedmama_site_seconds_since_heard{site="birch"}' in said

    revoke(home, "birch")
    wait_for(
        lambda: [e["site"] for e in run.events if e["event"] == "revoked"] == ["birch"], "the word"
    )
    run.wait_for_another_round()
    run.wait_for_another_round()
    assert not [e for e in run.events if e["event"] == "left"]
    assert status(run.folder.path)["sites"]["birch"]["state"] == "revoked"
    wait_for(lambda: 'fedmama_sites{state="revoked"} 1' in figures(), "the figures")

    Approvals(load_site(pair.box.sites["alder"])).reject(run.folder.experiment().hash())
    assert run.thread is not None
    run.thread.join(120)
    assert isinstance(run.error, QuorumError)
    codes = [e["code"] for e in run.events if e["event"] == "problem" and e["site"] == "alder"]
    assert codes[-1] == "rejected"
    ended = home.path.parent / "ended.txt"
    outcome, folder, reason = wait_for(
        lambda: ended.exists() and ended.read_text().strip().split("|"), "the script"
    )
    assert (outcome, folder) == ("failed", str(run.folder.path))
    assert reason in str(run.error)
    wait_for(lambda: "on_end | run run1: exit code 0" in home.log.read_text(), "the log")
    assert "on_end | run run1: said" in home.log.read_text()
    assert 'fedmama_last_error_info{run="' in figures()
