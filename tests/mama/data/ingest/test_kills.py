"""Ingest killed at random moments: the next one gives the dataset of an undisturbed ingest."""

import os
import random
import shutil
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mama.data.ingest.report import JSON, PAGE
from tests.mama.data.export import person, write_export
from tests.mama.data.ingest.test_run import run
from tests.waiting import wait_until

# These state what the last ingest took from the cache, and when.
ABOUT_THE_LAST_INGEST = {JSON, PAGE}
ALONE, WITH_WORKERS = 8, 2  # kills


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_export(tmp_path_factory.mktemp("export"), [person(n) for n in range(3)])


def files(out: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(out)): path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name not in ABOUT_THE_LAST_INGEST
    }


def alive(session: int) -> list[str]:
    """Command lines of the processes of a session that have not ended."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            state, _, _, of = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(of) == session and state != "Z":
                found.append((entry / "cmdline").read_text())
    return found


def start(work: Callable[[], object]) -> int:
    """Do the work in a child with a session of its own."""
    child = os.fork()
    if child:
        return child
    os.setsid()
    code = 1
    with suppress(BaseException):
        work()
        code = 0
    os._exit(code)


@pytest.mark.slow  # twenty ingests, some with worker processes
@pytest.mark.parametrize(("workers", "kills"), [(1, ALONE), (2, WITH_WORKERS)])
def test_killed_and_repeated(source: Path, tmp_path: Path, workers: int, kills: int) -> None:
    run(source, tmp_path / "whole")  # loads what the children share
    whole, chance = files(tmp_path / "whole"), random.Random(workers)
    assert len(whole) == 12 + 4  # pictures; manifest, index, headers and lock
    began = time.monotonic()
    child = start(lambda: run(source, tmp_path / "undisturbed", workers=workers))
    assert os.waitpid(child, 0)[1] == 0
    took, number = time.monotonic() - began, 0
    assert files(tmp_path / "undisturbed") == whole
    while number < kills:
        out = tmp_path / f"killed-{number}"
        shutil.rmtree(out, ignore_errors=True)
        child = start(lambda out=out: run(source, out, workers=workers))
        time.sleep(took * chance.random())
        os.kill(child, signal.SIGKILL)
        if os.waitpid(child, 0)[1] != signal.SIGKILL:
            took *= 0.8  # it had ended: the machine is less busy than before
            continue
        number += 1
        assert wait_until(lambda child=child: not alive(child)), alive(child)
        run(source, out)
        assert files(out) == whole, number


def test_what_killed_writes_left_is_removed(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    run(source, out)
    whole = files(out)
    for left in ("manifest.json", "headers.bin", JSON, PAGE, "images/index.jsonl"):
        path = out / left
        path.with_name(f".{path.name}.abcd1234").write_bytes(b"half")
    (out / "images" / ".0123.npy").write_bytes(b"half")
    run(source, out)
    assert files(out) == whole
