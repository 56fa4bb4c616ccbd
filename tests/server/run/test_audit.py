"""Audit log: changes show, a torn line hides no other, a full disk leaves no half line."""

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.errors import IntegrityError
from mama.exchange.protocol import Description
from mama.system.journal import START, content_of, read_chain
from server.cli import main
from server.run.audit import Audit
from server.run.checkpoint import State
from server.run.folder import RunFolder
from server.run.site_history import SiteHistory

ROOT = Path(__file__).parents[3]


def write(path: Path, entries: int) -> Audit:
    log = Audit(path, "r")
    for number in range(entries):
        log.record("a", number, "train-1-a", content_of(bytes([number])), "accepted")
    return log


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A log of five entries."""
    path = tmp_path_factory.mktemp("audit") / "audit.jsonl"
    write(path, 5)
    return path.read_bytes()


def test_an_entry_says_who_sent_what_when(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    assert read_chain(path) == ([], START, b"")
    log = write(path, 2)
    trail = read_chain(path)
    assert trail.head == log.head
    assert trail.torn == b""
    first, second = trail.entries
    claimed = json.loads(path.read_text().splitlines()[0])["hash"]
    assert first.pop("time") <= second["time"]
    assert first == {
        "run": "r",
        "round": 0,
        "site": "a",
        "task": "train-1-a",
        "outcome": "accepted",
        "bytes": 1,
        "sha256": hashlib.sha256(b"\0").hexdigest(),
        "previous": START,
    }
    assert second["previous"] == claimed


def test_it_goes_on_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    for _ in range(3):
        write(path, 2)
    assert len(read_chain(path).entries) == 6


@settings(max_examples=200, deadline=None)
@given(place=st.integers(min_value=0), byte=st.integers(1, 255))
def test_every_changed_byte_shows(
    five: bytes, tmp_path_factory: pytest.TempPathFactory, place: int, byte: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    place %= len(five) - 1  # without the last newline, whose loss is a torn line
    path.write_bytes(five[:place] + bytes([five[place] ^ byte]) + five[place + 1 :])
    with pytest.raises(IntegrityError):
        read_chain(path)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda lines: lines[1:], 1),
        (lambda lines: [lines[0], *lines[2:]], 2),
        (lambda lines: [lines[0], lines[2], lines[1], *lines[3:]], 2),
        (lambda lines: [*lines, lines[4]], 6),
        (lambda lines: [lines[0], b"", *lines[1:]], 2),
        (lambda lines: [lines[0].replace(b'{"time"', b'{"site": "b", "time"'), *lines[1:]], 1),
        (lambda lines: [*lines[:4], b'{"site": "b", ' + lines[4][1:]], 5),
        (lambda lines: [b"[]", *lines], 1),
    ],
)
def test_missing_moved_and_foreign_lines_show(
    five: bytes, tmp_path: Path, change: Callable[[list[bytes]], list[bytes]], line: int
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b"\n".join(change(five.splitlines())) + b"\n")
    with pytest.raises(IntegrityError, match=f"line {line} was modified"):
        read_chain(path)
    with pytest.raises(IntegrityError):  # nothing is added to it either
        Audit(path, "r")


def test_a_torn_last_line_is_seen_and_the_next_start_notes_what_it_was(
    five: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(five[:-20])
    torn = five[:-20].splitlines()[-1]
    trail = read_chain(path)
    assert (len(trail.entries), trail.torn) == (4, torn)
    write(path, 1)
    trail = read_chain(path)
    assert [e["outcome"] for e in trail.entries[3:]] == [
        "accepted",
        "torn line removed",
        "accepted",
    ]
    assert trail.entries[4]["sha256"] == hashlib.sha256(torn).hexdigest()


def test_a_full_disk_leaves_no_half_line(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    code = (
        "import resource, sys\n"
        "from mama.system.journal import content_of\n"
        "from server.run.audit import Audit\n"
        f"log = Audit(__import__('pathlib').Path({str(path)!r}), 'r')\n"
        "one = content_of(b'')\n"
        "log.record('a', 1, 'train', one, 'refused')\n"
        f"size = __import__('os').path.getsize({str(path)!r})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, resource.RLIM_INFINITY))\n"
        "try: log.record('a', 2, 'train', one, 'refused')\n"
        "except OSError: pass\n"
        "else: sys.exit('it fitted')\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)\n"
        "log.record('a', 3, 'train', one, 'refused')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    trail = read_chain(path)
    assert [entry["round"] for entry in trail.entries] == [1, 3]
    assert trail.torn == b""


def test_the_command(five: bytes, tmp_path: Path, command: Callable[..., Any]) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(five)
    assert "holds no run" in command(main, "audit", tmp_path).err  # nothing says how long it was
    base = Description(fingerprint="0" * 64, trained_parameters=1, frozen_parameters=0)
    state = State(run="r", round=0, base=base, memory=SiteHistory())
    RunFolder(tmp_path).save(state, {})
    ended = command(main, "audit", tmp_path)
    assert (ended.code, ended.err) == (0, "")
    digest = hashlib.sha256(bytes([4])).hexdigest()
    assert ended.out.splitlines() == [
        "5 entries from 1 sites, unbroken",
        f"a: last tensors of train-1-a, 1 bytes, sha256 {digest}",
        f"last hash: {read_chain(path).head}",
    ]
    path.write_bytes(five + b'{"time"')
    assert "the last line is incomplete after a crash" in command(main, "audit", tmp_path).out
    path.write_bytes(five.replace(b"accepted", b"refused.", 1))
    ended = command(main, "audit", tmp_path)
    assert (ended.code, ended.out) == (10, "")
    assert ended.err.startswith(f"error: {path}: line 1 was modified")
    assert ended.err.count("\n") == 1
