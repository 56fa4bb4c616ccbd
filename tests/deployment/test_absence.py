"""Sites that are silent and a ServerApp that dies as it starts: the run finishes by itself.

A node's process that is stopped (SIGSTOP) stands for packets that are dropped: nothing is closed,
and nothing comes.
"""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from mama.system.supervise import children
from server.service.jobs import JobFile
from tests.events import records
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow
GONE_S = 60
# The tail of a lost site: Flower's two heartbeats are within gone_s, the rest is looks and closing
# the round.
TAIL_S = 30


@contextmanager
def silent(federation: Any, *sites: str) -> Iterator[None]:
    """Stop sites' nodes while the block runs; one replaced by its service meanwhile stays."""
    nodes = [wait_for(lambda s=s: federation.box.processes().get(f"{s}/node"), s) for s in sites]
    for node in nodes:
        os.kill(node, signal.SIGSTOP)
    try:
        yield
    finally:
        for node in nodes:
            if os.path.exists(f"/proc/{node}"):
                os.kill(node, signal.SIGCONT)


def logged(run: Any, kind: str) -> list[dict[str, Any]]:
    return [event for event in run.events if event["event"] == kind]


def test_a_run_asked_for_again_finishes_though_its_serverapp_is_killed_at_once(
    federation: Any,
) -> None:
    federation.wait_until_serving()
    run = federation.start("federation={rounds: 6, local_steps: 2}", "participation.quorum=2")
    run.wait_for_round(2)
    job = JobFile(federation.box.home, run.folder.path)
    job.ask_to_stop()
    run.thread.join(PATIENCE_S)
    assert run.job.state == "stopped"
    executor = federation.box.processes()["executor"]
    wait_for(lambda: not children(executor), "the ServerApp to be gone")
    starts = len([e for e in records(run.folder) if e["event"] == "start"])
    again = federation.ask(run.folder)
    (process,) = wait_for(lambda: children(executor), "the next ServerApp")
    os.kill(process, signal.SIGKILL)
    # It wrote nothing, so that the last ending in the folder is the stop of before.
    assert len([e for e in records(run.folder) if e["event"] == "start"]) == starts
    metrics = again.finish()
    assert (metrics["status"], metrics["rounds"]) == ("finished", 6)


def test_a_site_that_falls_silent_within_a_round_does_not_hold_the_others_until_the_deadline(
    federation: Any,
) -> None:
    federation.wait_until_serving()
    run = federation.start(
        "federation={rounds: 400, local_steps: 20}",
        f"participation={{quorum: 2, deadline_s: 600, gone_s: {GONE_S}}}",
    )
    run.wait_for_round(1)
    wait_for(
        lambda: str(federation.status("cedar").working_on).startswith("train"), "cedar to train"
    )
    with silent(federation, "cedar"):
        stopped = time.time()
        first = wait_for(
            lambda: [e for e in logged(run, "round") if "cedar" not in e["sites"]],
            "a round without cedar",
        )[0]
        assert first["time"] - stopped <= GONE_S + TAIL_S
        assert set(first["sites"]) == {"alder", "birch"}
        assert [event["site"] for event in logged(run, "left")] == ["cedar"]
    wait_for(
        lambda: [e for e in logged(run, "joined") if e["site"] == "cedar"], "cedar to come back"
    )
    wait_for(lambda: "cedar" in logged(run, "round")[-1]["sites"], "a round with cedar")
    JobFile(federation.box.home, run.folder.path).ask_to_stop()
    run.thread.join(PATIENCE_S)
    assert run.job.state == "stopped"


def test_a_run_whose_sites_come_back_later_than_a_start_waits_finishes_by_itself(
    federation: Any,
) -> None:
    """Reboot of the coordinator with a late door: the ServerApp starts while sites are away."""
    federation.wait_until_serving()
    run = federation.start(
        "federation={rounds: 4, local_steps: 20}",
        "participation={quorum: 2, deadline_s: 600, gone_s: 600}",
    )
    run.wait_for_round(1)
    with silent(federation, *federation.box.sites):
        wait_for(lambda: len(logged(run, "left")) == len(federation.box.sites), "all to be lost")
        (process,) = children(federation.box.processes()["executor"])
        os.kill(process, signal.SIGKILL)
        (waiting,) = wait_for(lambda: logged(run, "waiting"), "the next ServerApp to wait")
        assert waiting["missing"] == sorted(federation.box.sites)
        assert run.thread.is_alive()
    metrics = run.finish()
    assert (metrics["status"], metrics["rounds"]) == ("finished", 4)
