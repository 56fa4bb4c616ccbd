"""Hospital's record of what it sent: complete like the audit, and required for sending."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client import cli
from client.handlers import answer
from client.privacy import sent
from client.privacy.sent import SentRecord, answers_of
from client.site.config import SiteFile, load_site
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task
from mama.system.journal import Entry, content_of, read_chain
from server import cli as server_cli
from sim.run import federate

MakeTask = Callable[..., Task]


def entries_of(site: SiteFile, run: str | None = None) -> list[Entry]:
    return answers_of(SentRecord(site).read(), run)


def ask(site_file: Path, task: Task, payload: bytes = b"") -> tuple[Any, bytes]:
    return answer(load_site(site_file), task.encode(), payload)


def test_every_answer_is_recorded_as_it_left(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    asked = [
        (make_task("describe"), b""),
        (make_task(), payload),
        (make_task(), payload),  # answered from the disk, and sent once more all the same
        (make_task("evaluate"), payload),
        (make_task(experiment_hash="0" * 64), payload),
    ]
    answers = [ask(site_file, task, tensors) for task, tensors in asked]
    answer(load_site(site_file), "no task", b"")
    shutil.rmtree(load_site(site_file).state)
    entries = entries_of(load_site(site_file))
    assert [e["kind"] for e in entries] == [
        "describe",
        "train",
        "train",
        "evaluate",
        "train",
        "unknown",
    ]
    for (reply, tensors), entry in zip(answers, entries, strict=False):
        assert {k: entry[k] for k in ("bytes", "sha256")} == content_of(tensors)
        header = content_of(reply.encode().encode())
        assert (entry["header_bytes"], entry["header_sha256"]) == (
            header["bytes"],
            header["sha256"],
        )
        assert entry["status"] == reply.status
    assert {"studies", "patients", "steps", "seconds"} <= set(entries[1]["figures"])
    assert "zero_shot.density" in entries[3]["figures"]
    assert entries[4]["figures"] == []


def test_both_sides_of_a_run_say_the_same(
    small_config: Any, site_files: Any, tmp_path: Path, command: Callable[..., Any]
) -> None:
    files, out = site_files("pair"), tmp_path / "out"
    federate(small_config().experiment(), files, out)
    audit = read_chain(out / "audit.jsonl").entries
    said = command(server_cli.main, "audit", out).out.splitlines()
    run = audit[0]["run"]
    for file in files:
        site = load_site(file)
        there = [e["sha256"] for e in audit if e["site"] == site.site]
        here = [e["sha256"] for e in entries_of(site, run) if e["bytes"]]
        assert there == here
        assert len(here) == 2
        printed = command(cli.main, "sent", file, run)
        assert (printed.code, printed.err) == (0, "")
        (line,) = [text for text in said if text.startswith(f"{site.site}: ")]
        assert line in printed.out.splitlines()


def test_the_table_fits_a_terminal(
    site_file: Path,
    make_task: MakeTask,
    payload: bytes,
    command: Callable[..., Any],
    monkeypatch: Any,
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    assert "0 answers" in command(cli.main, "sent", site_file).out
    ask(site_file, make_task(run="a-run-with-a-name-that-is-far-longer-than-a-column"), payload)
    ask(site_file, make_task("describe"))
    printed = command(cli.main, "sent", site_file)
    table, rest = printed.out.split("describe: ")
    assert max(map(len, table.splitlines())) <= 80
    assert "train: studies, patients, steps" in rest
    assert "sha256 " + entries_of(load_site(site_file))[0]["sha256"] in rest
    only = json.loads(command(cli.main, "sent", site_file, "run-1", "--json").out)
    assert [one["kind"] for one in only] == ["describe"]


def test_a_run_may_be_named_by_its_beginning(
    site_file: Path, make_task: MakeTask, command: Callable[..., Any]
) -> None:
    for run in ("run-1", "run-10", "other"):
        ask(site_file, make_task("describe", run=run))

    def runs(named: str) -> Any:
        ended = command(cli.main, "sent", site_file, named, "--json")
        return {e["run"] for e in json.loads(ended.out)} if not ended.code else ended

    assert runs("o") == {"other"}
    assert runs("run-1") == {"run-1"}  # a whole name, though another one begins with it
    assert runs("run-10") == {"run-10"}
    for named, why in (
        ("run", "several runs match: run-1, run-10"),
        ("other-", "nothing was sent for a run of this name"),
        ("", "several runs match"),
    ):
        ended = runs(named)
        assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
        assert why in ended.err


def _flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"bytes": ', b'"bytes": 1', 1))


def _cut(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))


def _replace(path: Path) -> None:
    path.unlink()
    path.mkdir()


@pytest.mark.parametrize("damage", [_flip, _cut, Path.unlink, _replace])
def test_a_record_that_is_damaged_stops_all_that_would_leave(
    site_file: Path,
    make_task: MakeTask,
    payload: bytes,
    command: Callable[..., Any],
    damage: Callable[[Path], None],
) -> None:
    ask(site_file, make_task("describe"))
    ask(site_file, make_task("describe"))
    path = load_site(site_file).privacy / "sent.jsonl"
    whole = path.read_bytes()
    damage(path)
    reply, tensors = ask(site_file, make_task(), payload)
    assert (reply.status, tensors, reply.training) == (ErrorCode.SENT_RECORD, b"", None)
    assert (reply.run, reply.round, reply.task) == ("run-1", 1, "train-1-alder")
    if path.is_file() or not path.exists():
        ended = command(cli.main, "sent", site_file)
        assert (ended.code, ended.out) == (10, "")
        assert ended.err.startswith(f"error: {path}")
        assert ended.err.count("\n") == 1
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    path.write_bytes(whole)
    reply, tensors = ask(site_file, make_task(), payload)
    assert reply.status == "ok"
    assert tensors


def test_a_full_disk_is_called_so(
    site_file: Path, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    def full(self: object, values: object) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(sent.Chain, "append", full)
    assert ask(site_file, make_task("describe"))[0].status == ErrorCode.DISK_FULL


def test_a_crash_between_line_and_head_and_one_within_a_line_are_no_damage(
    site_file: Path, make_task: MakeTask
) -> None:
    privacy = load_site(site_file).privacy
    ask(site_file, make_task("describe"))
    before = (privacy / "sent.json").read_bytes()
    ask(site_file, make_task("describe"))
    (privacy / "sent.json").write_bytes(before)
    with open(privacy / "sent.jsonl", "ab") as log:
        log.write(b'{"time": "20')
    assert ask(site_file, make_task("describe"))[0].status == "ok"
    assert len(entries_of(load_site(site_file))) == 3


def test_a_record_that_nobody_touched_is_not_read_for_each_answer(
    site_file: Path, make_task: MakeTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(site_file, make_task("describe"))
    monkeypatch.setattr(sent, "read_chain", None)  # reading would fail
    for number in range(3):
        assert ask(site_file, make_task("describe", task=f"again-{number}"))[0].status == "ok"
    monkeypatch.undo()
    assert len(entries_of(load_site(site_file))) == 4
    path = load_site(site_file).privacy / "sent.jsonl"
    os.utime(path)  # touched, and whole
    assert ask(site_file, make_task("describe", task="touched"))[0].status == "ok"
    assert len(entries_of(load_site(site_file))) == 5
