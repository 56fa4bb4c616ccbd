"""The coordinator's wall clock jumps, forth and back: libfaketime in real processes."""

import os
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mama.system.supervise import Program
from sim.engines import deployment
from tests.deployment.conftest import Federation
from tests.waiting import wait_for

FAKETIME = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
# Python sleeps until an hour of the monotonic clock, which libfaketime takes for one of its own.
SLEEP = """
import select
import time
time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not FAKETIME, reason="needs Debian's faketime"),
]


@pytest.fixture
def jump(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the clock of the coordinator's processes, which must be started after this."""
    (tmp_path / "sitecustomize.py").write_text(SLEEP)
    clock = tmp_path / "clock"
    clock.write_text("+0s")
    faked = {
        "LD_PRELOAD": str(FAKETIME[0]),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_CACHE_DURATION": "1",  # seconds; to read the file at each look takes a core
        "DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",  # imports look at thousands of files
        "PYTHONPATH": str(tmp_path),
    }

    def service(name: str, *arguments: Any, real: Callable = deployment.service) -> Program:
        program = real(name, *arguments)
        if name != "coordinator":
            return program
        command = [part for part in program.command if part != "-I"]  # so that SLEEP is read
        return replace(program, command=command, environment=os.environ | faked)

    def set_clock(by: str) -> None:
        clock.write_text(by)

    monkeypatch.setattr(deployment, "service", service)
    return set_clock


def test_a_run_survives_jumps_of_the_coordinators_clock(
    jump: Callable[[str], None], another_federation: Federation
) -> None:
    run = another_federation.start(
        "federation={rounds: 4, local_steps: 2}", "participation={quorum: 1, deadline_s: 120}"
    )
    for number, by in ((1, "+250s"), (2, "+0s")):
        run.wait_for_round(number)
        jump(by)
    assert run.finish()["rounds"] == 4
    rounds = {e["round"]: e for e in run.events if e["event"] == "round"}
    times = [rounds[number]["time"] for number in sorted(rounds)]
    assert len(times) == 4
    assert min(later - earlier for earlier, later in pairwise(times)) < 0  # the jumps were real
    assert all(event["seconds"] < 250 for event in rounds.values())  # and no round counted them


def test_a_site_a_day_apart_is_refused_with_a_reason_until_the_clocks_agree(
    jump: Callable[[str], None], another_federation: Federation
) -> None:
    another_federation.wait_until_serving()
    jump("+1d")
    wait_for(
        lambda: (
            "signed time: set this machine's clock" in another_federation.status("birch").reason
        ),
        "the refusal",
    )
    assert not another_federation.status("birch").serving
    jump("+0s")
    another_federation.wait_until_serving()
