"""Coordinator's command at the end of a run: a mail, a message, a copy.

It runs beside the service, which never waits for it. What it prints goes into the service's log.
"""

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from mama.system.logs import printable
from mama.system.processes import die_with_parent
from server.federation.home import Home
from server.service.job import Job
from server.service.jobs import JobFile

# A command that takes longer is killed, with all that it started.
TIMEOUT_S = 60.0
# Bytes of its output that go into the log, and of a line of it.
LONGEST_OUTPUT, LONGEST_LINE = 20_000, 500
# For the last of its output, after its end.
LAST_WORDS_S = 2.0


class EndedRun(NamedTuple):
    """Environment variables and working folder of the command at the end of a run.

    The file `unannounced` is removed when the command has ended.
    """

    variables: dict[str, str]
    folder: Path
    unannounced: Path


def ended_run(home: Home, job: Job) -> EndedRun:
    """Return the command's variables for an ended run, and the federation file's folder."""
    return EndedRun(
        {
            "FEDMAMA_FEDERATION": home.file.name,
            "FEDMAMA_RUN": str(job.out),
            "FEDMAMA_OUTCOME": job.state,
            "FEDMAMA_REASON": printable(job.reason, 1000),
        },
        home.path.parent,
        JobFile(home, job.out).unannounced,
    )


def run_command(command: Sequence[str], ended: EndedRun, log: logging.Logger) -> threading.Thread:
    """Start a command and return at once.

    The thread ends with the command, which is killed after TIMEOUT_S.
    """
    # A daemon, so that a service that stops does not wait; its end takes the command with it.
    thread = threading.Thread(target=_announce, args=(command, ended, log), daemon=True)
    thread.start()
    return thread


def _announce(command: Sequence[str], ended: EndedRun, log: logging.Logger) -> None:
    _run(command, ended, log)
    # Later than the end: a service that dies meanwhile runs the command again when it is back.
    ended.unannounced.unlink(missing_ok=True)


def _run(command: Sequence[str], ended: EndedRun, log: logging.Logger) -> None:
    run = Path(ended.variables["FEDMAMA_RUN"]).name
    try:
        process = subprocess.Popen(
            command,
            env={**os.environ, **ended.variables},
            cwd=ended.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        why = getattr(error, "strerror", None) or type(error).__name__
        log.warning("on_end | run %s: %s cannot be started: %s", run, printable(command[0]), why)
        return
    # A thread of its own: what the command leaves running may keep the pipe open.
    reader = threading.Thread(target=_copy, args=(process, run, log), daemon=True)
    reader.start()
    try:
        code = process.wait(TIMEOUT_S)
        reader.join(LAST_WORDS_S)
        level = logging.WARNING if code else logging.INFO
        log.log(level, "on_end | run %s: exit code %d", run, code)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        log.warning("on_end | run %s: killed after %.0f s", run, TIMEOUT_S)


def _copy(process: subprocess.Popen[bytes], run: str, log: logging.Logger) -> None:
    """Put what a command prints into the log, a line each, up to LONGEST_OUTPUT bytes."""
    assert process.stdout is not None
    left = LONGEST_OUTPUT
    with process.stdout as output:
        while line := output.readline(LONGEST_LINE):
            # What is beyond the limit is read all the same, so that the command is not held up.
            if left > 0 and (text := printable(line.decode(errors="replace"), LONGEST_LINE)):
                log.info("on_end | run %s: %s", run, text)
            left -= len(line)
