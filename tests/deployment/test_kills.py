"""kill -9 of every process in mid-run: the run completes, and every site is back."""

import os
import signal
import time
from typing import Any

import pytest

from client.service.status import ServiceFolder
from client.site.config import load_site
from mama.system.supervise import children
from server.service.jobs import JobFile
from tests.events import records

pytestmark = pytest.mark.slow
# The executor last but one: the ServerApp that it started is not the child of the next.
VICTIMS = ("alder/guard", "alder/node", "serverapp", "executor", "superlink")
ROUNDS = 20


def kill(federation: Any, victim: str) -> int:
    """kill -9, a guard's in the middle of a task; returns the process."""
    if victim == "serverapp":
        (process,) = children(federation.box.processes()["executor"])
        os.kill(process, signal.SIGKILL)
        return process
    if victim == "alder/guard":
        while not federation.status("alder").working_on:
            time.sleep(0.01)
    return federation.kill(victim)


def test_a_run_survives_the_death_of_every_process(federation: Any) -> None:
    federation.wait_until_serving()
    run = federation.start(f"federation.rounds={ROUNDS}")
    killed = {}
    for victim in VICTIMS:
        run.wait_for_another_round()
        assert run.thread.is_alive()
        killed[victim] = kill(federation, victim)
    metrics = run.finish()

    assert (metrics["status"], metrics["rounds"]) == ("finished", ROUNDS)
    rounds = {e["round"]: set(e["sites"]) for e in records(run.folder) if e["event"] == "round"}
    assert sorted(rounds) == list(range(1, ROUNDS + 1))
    assert all({"birch", "cedar"} <= sites for sites in rounds.values())
    assert "alder" in rounds[ROUNDS]
    assert (run.folder.path / "final" / "model.safetensors").is_file()
    assert (run.folder.path / "report.html").is_file()
    federation.wait_until_serving()
    now = federation.box.processes()
    assert all(now[victim] != killed[victim] for victim in now if victim in killed)
    log = ServiceFolder(load_site(federation.box.sites["alder"])).log
    assert "gave up the task at which an earlier guard was killed" in log.read_text()


def test_runs_stopped_while_messages_are_on_their_way_block_no_site(federation: Any) -> None:
    for _ in range(2):
        run = federation.start("federation={rounds: 500, local_steps: 1}", "participation.quorum=3")
        run.wait_for_round(2)
        JobFile(federation.box.home, run.folder.path).ask_to_stop()
        run.thread.join(60)
        assert run.job.state == "stopped"
    assert federation.start("federation.rounds=1").finish()["problems"] == []
