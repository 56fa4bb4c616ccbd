"""Supervisor of long-running programs: process groups, restarts with back-off, one common log."""

import logging
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from logging.handlers import RotatingFileHandler
from pathlib import Path

from mama.system.files import private_folder
from mama.system.logs import printable
from mama.system.processes import die_with_parent

LONGEST_PAUSE_S = 15.0
# Characters of a log line; output of programs may contain text from other machines.
LONGEST_LINE = 1000
# Running time after which a program's back-off is reset.
SETTLED_S = 60.0
# Time that a program has to stop after SIGTERM.
PATIENCE_S = 10.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Program:
    """Program to run under supervision.

    `hangs` is called every second with the process id; a program that hangs is killed and
    restarted. Lines that match `noise` are not logged.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    hangs: Callable[[int], bool] = lambda process: False
    noise: re.Pattern[str] | None = None


@dataclass
class _ProgramState:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    due: float = 0.0
    failures: int = 0
    threads: list[threading.Thread] = field(default_factory=list)


class Supervisor:
    """Supervisor that keeps programs running until `stopping` is set.

    `run` must be called by a thread that outlives the programs, preferably the main one: on Linux
    they die with it, even if the supervisor is killed.
    """

    def __init__(self, programs: list[Program], log: logging.Logger):
        self.log = log
        self.stopping = threading.Event()
        self._states = [_ProgramState(program) for program in programs]

    def run(self) -> None:
        """Start all programs, restart those that end, and stop all when `stopping` is set."""
        checked = 0.0
        try:
            while not self.stopping.wait(0.1):
                now = time.monotonic()
                check = now - checked > 1.0
                checked = now if check else checked
                for state in self._states:
                    if state.process is None:
                        if now >= state.due:
                            self._start(state)
                    elif state.process.poll() is not None:
                        self._ended(state, f"ended with code {state.process.returncode}")
                    elif check and state.program.hangs(state.process.pid):
                        self._ended(state, "hung and was killed")
        finally:
            self._stop(*self._states)

    def restart(self, name: str) -> None:
        """Terminate a program, which is then restarted at once; callable from any thread."""
        for state in self._states:
            if state.program.name == name and (process := state.process):
                state.failures = -1
                with suppress(ProcessLookupError):
                    process.terminate()

    def process_id(self, name: str) -> int | None:
        """Return a program's process id, None while it is not running."""
        for state in self._states:
            if state.program.name == name and state.process:
                return state.process.pid
        return None

    def _start(self, state: _ProgramState) -> None:
        program = state.program
        try:
            state.process = subprocess.Popen(
                program.command,
                env=dict(program.environment),
                cwd=program.folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        except OSError as error:
            self.log.error("%s | cannot start: %s", program.name, error.strerror)
            self._pause(state)
            return
        state.begun = time.monotonic()
        self.log.info("%s | started as process %d", program.name, state.process.pid)
        reader = threading.Thread(target=self._read, args=(program, state.process), daemon=True)
        reader.start()
        state.threads = [reader]

    def _read(self, program: Program, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = _COLOURS.sub("", line.decode(errors="replace").rstrip())
            if text and not (program.noise and program.noise.search(text)):
                self.log.info("%s | %s", program.name, printable(text, LONGEST_LINE))

    def _ended(self, state: _ProgramState, how: str) -> None:
        if time.monotonic() - state.begun > SETTLED_S:
            state.failures = 0
        # Its children must not run beside its successor.
        self._stop(state)
        self._pause(state)
        pause = max(0.0, state.due - time.monotonic())
        self.log.warning("%s | %s; restarting in %.0f s", state.program.name, how, pause)

    def _pause(self, state: _ProgramState) -> None:
        # Bounded, since a program may fail for weeks.
        pause = 2.0 ** min(state.failures, 10) if state.failures >= 0 else 0.0
        state.due = time.monotonic() + min(LONGEST_PAUSE_S, pause)
        state.failures += 1

    def _stop(self, *states: _ProgramState) -> None:
        """Terminate programs, all at once, then kill the rest of their process groups."""
        running = [(state, state.process) for state in states if state.process is not None]
        for _, process in running:
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + PATIENCE_S
        for state, process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for thread in state.threads:
                thread.join(timeout=2)
            if process.stdout:
                process.stdout.close()
            state.process = None


def run_service(supervisor: Supervisor, beside: Callable[[], None]) -> None:
    """Run a service until SIGTERM, SIGINT or SIGHUP.

    Args:
        supervisor: the supervisor of its programs.
        beside: called in a thread of its own; returns when `supervisor.stopping` is set.
    """
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: supervisor.stopping.set())
    thread = threading.Thread(target=beside)
    thread.start()
    try:
        supervisor.run()
    finally:
        supervisor.stopping.set()
        thread.join()


def children(process: int) -> list[int]:
    """Return the running child processes of a process."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = entry.read_text(encoding="utf-8").rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if int(parent) == process and state != "Z":
            found.append(int(entry.parent.name))
    return found


def log_to(path: Path, name: str) -> logging.Logger:
    """Return a logger that writes timestamped lines (UTC) to a file, rotated at 10 MB, 5 kept."""
    private_folder(path.parent)
    logger = logging.getLogger(name)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    handler = RotatingFileHandler(path, maxBytes=10 * 2**20, backupCount=5, encoding="utf-8")
    formatter = logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    logger.handlers = [handler]
    return logger
