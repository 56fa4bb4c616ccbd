"""Programs are kept running, whatever ends them, and none is left behind."""

import logging.handlers
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import mama.system.supervise
from mama.system.supervise import Program, Supervisor, log_to, run_service
from tests.waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).parents[3]


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., Program]:
    def make(code: str, **more: object) -> Program:
        return Program("it", [sys.executable, "-c", code], os.environ, tmp_path, **more)

    return make


@contextmanager
def supervised(program: Program, folder: Path) -> Iterator[Supervisor]:
    supervisor = Supervisor([program], log_to(folder / "it.log", f"test.{folder}"))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield supervisor
    finally:
        supervisor.stopping.set()
        thread.join()


def running(process: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False


def test_what_is_killed_starts_again(program: Callable[..., Program], tmp_path: Path) -> None:
    with supervised(program("import time; time.sleep(60)"), tmp_path) as supervisor:
        wait_for(lambda: supervisor.process_id("it"))
        first = supervisor.process_id("it")
        assert first is not None
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: supervisor.process_id("it") not in (None, first))
        second = supervisor.process_id("it")
    assert second is not None
    assert not running(second)
    assert supervisor.process_id("it") is None
    assert "ended with code -9; restarting in 1 s" in (tmp_path / "it.log").read_text()


def test_pauses_grow_and_settle(
    program: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mama.system.supervise, "LONGEST_PAUSE_S", 2.0)
    with supervised(program("print('hello')"), tmp_path):
        wait_for(lambda: (tmp_path / "it.log").read_text().count("restarting in 2 s") >= 2)
    lines = (tmp_path / "it.log").read_text().splitlines()
    pauses = [line.split("restarting in ")[1] for line in lines if "restarting" in line]
    assert pauses[:3] == ["1 s", "2 s", "2 s"]


def test_what_hangs_is_killed_with_all_it_started(
    program: Callable[..., Program], tmp_path: Path
) -> None:
    code = (
        "import signal, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print('child', child.pid, flush=True)\n"
        "time.sleep(60)"
    )
    hangs = threading.Event()

    def child() -> int:
        text = (tmp_path / "it.log").read_text()
        return int(text.rsplit("child ", 1)[1].split()[0]) if "child " in text else 0

    with supervised(program(code, hangs=lambda process: hangs.is_set()), tmp_path):
        wait_for(child)
        first = child()
        hangs.set()
        wait_for(lambda: not running(first))
        hangs.clear()
        wait_for(lambda: child() != first)
        last = child()
    assert "hung and was killed" in (tmp_path / "it.log").read_text()
    wait_for(lambda: not running(last))  # the kernel ends a killed process in its own time


def test_a_program_that_ignores_the_request_to_stop_is_killed(
    program: Callable[..., Program], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mama.system.supervise, "PATIENCE_S", 0.3)
    code = (
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('deaf', flush=True)\ntime.sleep(60)"
    )
    with supervised(program(code), tmp_path) as supervisor:
        wait_for(lambda: "deaf" in (tmp_path / "it.log").read_text())
        process = supervisor.process_id("it")
    assert process is not None
    assert not running(process)


def test_a_restart_asked_for_is_no_failure(program: Callable[..., Program], tmp_path: Path) -> None:
    with supervised(program("import time; time.sleep(60)"), tmp_path) as supervisor:
        wait_for(lambda: supervisor.process_id("it"))
        first = supervisor.process_id("it")
        supervisor.restart("it")
        wait_for(lambda: supervisor.process_id("it") not in (None, first))
    assert "restarting in 0 s" in (tmp_path / "it.log").read_text()


def test_a_program_that_is_not_there_is_logged_and_tried_again(tmp_path: Path) -> None:
    missing = Program("it", [str(tmp_path / "nothing")], os.environ, tmp_path)
    with supervised(missing, tmp_path):
        wait_for(lambda: (tmp_path / "it.log").read_text().count("cannot start: No such file") >= 2)


def test_the_log_has_no_colours_and_no_noise(
    program: Callable[..., Program], tmp_path: Path
) -> None:
    code = (
        "print('\\x1b[92mINFO\\x1b[0m one'); print('GET 200'); print(); print('two\\x1b]0;x\\x07')"
    )
    with supervised(program(code, noise=re.compile("200$")), tmp_path):
        wait_for(lambda: "ended" in (tmp_path / "it.log").read_text())
    said = [line.split(" | ")[1] for line in (tmp_path / "it.log").read_text().splitlines()]
    assert "INFO one" in said
    assert "two ]0;x" in said
    assert "GET 200" not in said
    assert "" not in said


@pytest.mark.skipif(sys.platform != "linux", reason="children die with their parent on Linux only")
def test_programs_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom pathlib import Path\n"
        "from mama.system.supervise import Program, Supervisor, log_to, run_service\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)']\n"
        "folder = Path(sys.argv[1])\n"
        "log = log_to(folder / 'it.log', 'x')\n"
        "Supervisor([Program('it', sleep, os.environ, folder)], log).run()"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], env=environment)
    log = tmp_path / "it.log"
    try:
        wait_for(lambda: log.exists() and "started as process" in log.read_text())
        child = int(log.read_text().split("started as process ")[1].split()[0])
        assert running(child)
    finally:
        parent.kill()
        parent.wait()
    wait_for(lambda: not running(child))


def test_the_log_is_kept_small(tmp_path: Path) -> None:
    logger = log_to(tmp_path / "it.log", "test.small")
    handler = logger.handlers[0]
    assert isinstance(handler, logging.handlers.RotatingFileHandler)
    handler.maxBytes = 1000
    for number in range(200):
        logger.info("line %d", number)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 6
    assert max(sizes) <= 1000


def test_a_program_that_has_failed_for_weeks_is_started_again(
    program: Callable[..., Program], tmp_path: Path
) -> None:
    supervisor = Supervisor([program("raise SystemExit(3)")], log_to(tmp_path / "it.log", "weeks"))
    supervisor._states[0].failures = 10_000
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        wait_for(lambda: supervisor._states[0].failures == 10_001)
        assert thread.is_alive()
    finally:
        supervisor.stopping.set()
        thread.join()
    assert "restarting in 15 s" in (tmp_path / "it.log").read_text()


@pytest.fixture
def signals() -> Iterator[None]:
    """Restore the handlers that a service sets."""
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.usefixtures("signals")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_service_stops_at_a_signal(
    program: Callable[..., Program], tmp_path: Path, number: signal.Signals
) -> None:
    supervisor = Supervisor(
        [program("import time; time.sleep(60)")], log_to(tmp_path / "it.log", f"test.{tmp_path}")
    )
    seen = []

    def beside() -> None:
        wait_for(lambda: supervisor.process_id("it"))
        seen.append(supervisor.process_id("it"))
        os.kill(os.getpid(), number)
        supervisor.stopping.wait()
        seen.append("stopping")

    run_service(supervisor, beside)
    process, last = seen
    assert last == "stopping"
    assert not running(process)


@pytest.mark.usefixtures("signals")
def test_what_runs_beside_a_service_ends_with_its_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor = Supervisor([], log_to(tmp_path / "it.log", f"test.{tmp_path}"))
    ended = []

    def fail() -> None:
        raise OSError("no more processes")

    def beside() -> None:
        ended.append(supervisor.stopping.wait(PATIENCE_S))

    monkeypatch.setattr(supervisor, "run", fail)
    with pytest.raises(OSError, match="no more processes"):
        run_service(supervisor, beside)
    assert ended == [True]
