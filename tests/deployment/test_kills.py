"""kill -9 of every process in mid-run: the run completes, and every site is back."""

import os
import signal
import time
from typing import Any

import pytest

from client.service import ServiceFolder
from client.sitefile import load_site
from mama.supervise import children
from server.jobs import JobFile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ROUNDS = 3


def wait_for_work(federation: Any) -> None:
    """Until alder's guard is in the middle of a task."""
    while not federation.status("alder").working_on:
        time.sleep(0.01)


@pytest.mark.parametrize(
    "victim", ["alder/guard", "alder/node", "superlink", "superexec", "serverapp"]
)
def test_a_run_survives_the_death_of(victim: str, federation: Any) -> None:
    federation.wait_until_serving()
    run = federation.start(f"federation.rounds={ROUNDS}")
    run.wait_for_round(1)
    if victim == "serverapp":
        (process,) = children(federation.box.processes()["superexec"])
        os.kill(process, signal.SIGKILL)
    else:
        if victim == "alder/guard":
            wait_for_work(federation)
        killed = federation.kill(victim)
    metrics = run.finish()

    assert (metrics["status"], metrics["rounds"]) == ("finished", ROUNDS)
    rounds = {e["round"]: set(e["sites"]) for e in run.folder.events() if e["event"] == "round"}
    assert sorted(rounds) == list(range(1, ROUNDS + 1))
    assert all({"birch", "cedar"} <= sites for sites in rounds.values())
    if "/" not in victim:
        assert all("alder" in sites for sites in rounds.values())
    assert (run.folder.path / "final" / "model.safetensors").is_file()
    assert (run.folder.path / "report.html").is_file()
    federation.wait_until_serving()
    if victim != "serverapp":
        assert federation.box.processes()[victim] != killed
    if victim == "alder/guard":
        log = ServiceFolder(load_site(federation.box.sites["alder"])).log
        assert "gave up the task at which an earlier guard was killed" in log.read_text()


def test_runs_stopped_while_messages_are_on_their_way_block_no_site(federation: Any) -> None:
    for _ in range(3):
        run = federation.start("federation={rounds: 500, local_steps: 1, quorum: 3}")
        run.wait_for_round(2)
        JobFile(federation.box.home, run.folder.path).ask_to_stop()
        run.thread.join(60)
        assert run.job.state == "stopped"
    assert federation.start("federation.rounds=1").finish()["problems"] == []
