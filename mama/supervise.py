"""Keeps programs running: each in a process group of its own, started again with back-off, all output in one log."""

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

from mama.files import private_folder
from mama.printable import printable
from mama.processes import die_with_parent

LONGEST_PAUSE_S = 15.0
# Characters of a line in the log; what programs print may hold the words of another machine.
LONGEST_LINE = 1000
# A program that ran so long starts its back-off anew.
SETTLED_S = 60.0
# How long a program may take to stop when asked.
PATIENCE_S = 10.0
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")


@dataclass
class Program:
    """What to run. `hangs` is asked every second about its process; one that does is killed and started again.
    Lines in which `noise` is found do not reach the log.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    folder: Path
    hangs: Callable[[int], bool] = lambda process: False
    noise: re.Pattern[str] | None = None


@dataclass
class _Kept:
    program: Program
    process: subprocess.Popen[bytes] | None = None
    begun: float = 0.0
    due: float = 0.0
    failures: int = 0
    threads: list[threading.Thread] = field(default_factory=list)


class Supervisor:
    """Runs programs until told to stop.

    `run` must be called by a thread that lives as long as the programs, best the main one: on Linux they die with it,
    also when the supervisor is killed.
    """

    def __init__(self, programs: list[Program], log: logging.Logger):
        self.log = log
        self.stopping = threading.Event()
        self._kept = [_Kept(program) for program in programs]

    def run(self) -> None:
        """Start all, start again what ends, and stop all when `stopping` is set."""
        checked = 0.0
        try:
            while not self.stopping.wait(0.1):
                now = time.monotonic()
                check = now - checked > 1.0
                checked = now if check else checked
                for kept in self._kept:
                    if kept.process is None:
                        if now >= kept.due:
                            self._start(kept)
                    elif kept.process.poll() is not None:
                        self._ended(kept, f"ended with code {kept.process.returncode}")
                    elif check and kept.program.hangs(kept.process.pid):
                        self._ended(kept, "hangs and is killed")
        finally:
            self._stop(*self._kept)

    def restart(self, name: str) -> None:
        """Ask a program to end; it is started again at once. To be called from any thread."""
        for kept in self._kept:
            if kept.program.name == name and (process := kept.process):
                kept.failures = -1
                with suppress(ProcessLookupError):
                    process.terminate()

    def process_id(self, name: str) -> int | None:
        """A program's process id, None while it does not run."""
        for kept in self._kept:
            if kept.program.name == name and kept.process:
                return kept.process.pid
        return None

    def _start(self, kept: _Kept) -> None:
        program = kept.program
        try:
            kept.process = subprocess.Popen(
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
            self._pause(kept)
            return
        kept.begun = time.monotonic()
        self.log.info("%s | started as process %d", program.name, kept.process.pid)
        reader = threading.Thread(target=self._read, args=(program, kept.process), daemon=True)
        reader.start()
        kept.threads = [reader]

    def _read(self, program: Program, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            text = _COLOURS.sub("", line.decode(errors="replace").rstrip())
            if text and not (program.noise and program.noise.search(text)):
                self.log.info("%s | %s", program.name, printable(text, LONGEST_LINE))

    def _ended(self, kept: _Kept, how: str) -> None:
        if time.monotonic() - kept.begun > SETTLED_S:
            kept.failures = 0
        # What it started must not work on beside its successor.
        self._stop(kept)
        self._pause(kept)
        pause = max(0.0, kept.due - time.monotonic())
        self.log.warning("%s | %s; starts again in %.0f s", kept.program.name, how, pause)

    def _pause(self, kept: _Kept) -> None:
        # Bounded, for a program may fail for weeks.
        pause = 2.0 ** min(kept.failures, 10) if kept.failures >= 0 else 0.0
        kept.due = time.monotonic() + min(LONGEST_PAUSE_S, pause)
        kept.failures += 1

    def _stop(self, *kept: _Kept) -> None:
        """Ask programs to stop, all at once, then kill what is left of their groups."""
        running = [(one, one.process) for one in kept if one.process is not None]
        for _, process in running:
            if process.poll() is None:
                process.terminate()
        end = time.monotonic() + PATIENCE_S
        for one, process in running:
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, end - time.monotonic()))
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for thread in one.threads:
                thread.join(timeout=2)
            if process.stdout:
                process.stdout.close()
            one.process = None


def children(process: int) -> list[int]:
    """Processes that a process started and that have not ended."""
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
    """A logger that writes lines with their time (UTC) to one file of at most 10 MB, and keeps the last five."""
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


def stop_on_signals(stopping: threading.Event) -> None:
    """Set `stopping` on SIGTERM, SIGINT and SIGHUP."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stopping.set())
