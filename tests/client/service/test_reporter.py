"""Report at the end of a run: written once, beside no task, and never at a task's cost."""

import logging
import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import ConfigRecord

from client.handlers import answer
from client.service import guard, reporter
from client.service.guard import Guard
from client.service.reporter import DUE, PAGE, Reporter, main, newest_report, renew
from client.service.status import ServiceFolder, format_status, read_status
from client.site.config import SiteFile, load_site
from mama.exchange.protocol import Answer, Task
from tests.waiting import PATIENCE_S

WRITES = "import sys, pathlib; pathlib.Path(sys.argv[1], 'site_report.html').write_text('page')"
# Half a page, and then nothing more.
HANGS = (
    "import sys, time, pathlib;"
    "pathlib.Path(sys.argv[1], '.site_report.html.half').write_text('half'); time.sleep(60)"
)


@pytest.fixture
def site(site_file: Path) -> SiteFile:
    return load_site(site_file)


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reporter, "QUIET_S", 0.0)


@pytest.fixture
def program(monkeypatch: pytest.MonkeyPatch, site: SiteFile) -> Callable[[str], None]:
    """Replace the program that writes a report; its argument is the run's folder."""

    def stand(code: str) -> None:
        monkeypatch.setattr(
            reporter,
            "command",
            lambda file, run: [sys.executable, "-c", code, str(site.run_folder(run))],
        )

    return stand


def wait(done: Callable[[], bool], reports: Reporter | None = None) -> None:
    end = time.monotonic() + PATIENCE_S
    while not done():
        assert time.monotonic() < end
        time.sleep(0.02)
        if reports:
            reports.go_on()


def test_it_is_the_sites_report_and_nobody_elses(
    site_file: Path,
    site: SiteFile,
    make_task: Callable[..., Task],
    payload: bytes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer(site, make_task("train").encode(), payload)
    answer(site, make_task("finish", round=2, task="finish-2").encode(), payload)
    monkeypatch.setattr(reporter, "require_installed_code", lambda: None)
    before = os.umask(0)
    try:
        main(site_file, "run-1")
    finally:
        os.umask(before)
    page = site.run_folder("run-1") / PAGE
    assert stat.S_IMODE(page.stat().st_mode) == 0o600
    text = page.read_text(encoding="utf-8")
    assert "What this hospital gained" in text
    assert "final model − round 0" in text
    assert newest_report(site.state) == page
    folder = ServiceFolder(site)
    folder.make()
    status = read_status(folder)
    assert status.report == str(page)
    assert f"newest report: {page}" in format_status(status, None, 0, as_json=False).splitlines()


def test_a_report_is_written_once(
    site_file: Path,
    site: SiteFile,
    program: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "fedmama.guard")
    program(WRITES)
    freed: list[str] = []
    Reporter(site_file).add("run-1")
    Reporter(site_file).add("run-2")
    # A service that is started again finds what was due.
    reports = Reporter(site_file, lambda: freed.append("room"))
    marks = [site.run_folder(run) / DUE for run in ("run-1", "run-2")]
    wait(lambda: not any(mark.exists() for mark in marks), reports)
    for run in ("run-1", "run-2"):
        page = site.run_folder(run) / PAGE
        assert page.read_text() == "page"
        assert caplog.text.count(f"run {run}: the site's report is {page}") == 1
        page.unlink()
    assert len(freed) == 2
    reports.go_on()
    time.sleep(0.3)
    assert newest_report(site.state) is None


def test_a_task_ends_it_and_it_begins_anew(
    site_file: Path, site: SiteFile, program: Callable[[str], None]
) -> None:
    reports, folder = Reporter(site_file), site.run_folder("run-1")
    reports.add("run-1")
    program(HANGS)
    half = folder / f".{PAGE}.half"
    wait(half.exists, reports)
    reports.stop()
    assert not half.exists()
    assert (folder / DUE).exists()
    reports.stop()  # nothing is at work
    program(WRITES)
    wait((folder / PAGE).exists, reports)
    # Killed together with the guard, it leaves half a page for the next guard to remove.
    half.write_text("half")
    again = Reporter(site_file)
    again.add("run-1")
    wait(lambda: not half.exists(), again)
    wait(lambda: not (folder / DUE).exists(), again)


def test_what_failed_is_a_line_in_the_log_and_is_not_tried_again(
    site_file: Path,
    site: SiteFile,
    program: Callable[[str], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    program("raise SystemExit(3)")
    reports = Reporter(site_file)
    reports.add("run-1")
    wait(lambda: not (site.run_folder("run-1") / DUE).exists(), reports)
    assert caplog.text.count("run run-1: the site's report was not written (code 3)") == 1
    program(WRITES)
    reports.go_on()
    time.sleep(0.3)
    assert newest_report(site.state) is None


def test_without_room_for_the_mark_or_the_program_nothing_else_fails(
    site_file: Path,
    site: SiteFile,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reports = Reporter(site_file)
    reports.add("run-1")
    monkeypatch.setattr(reporter, "command", lambda *_: ["/no/such/program"])
    reports.go_on()
    assert "no report is written" in caplog.text
    caplog.clear()
    site_file.write_text("site: [")
    reports.add("run-2")
    reports.go_on()
    assert caplog.text.count("no report is written") == 2


def ended(task: str, run: str, final: str | None) -> Any:
    assignment = SimpleNamespace(bundle="a" * 64, for_client_app=True)
    assignment.message = SimpleNamespace(
        metadata=SimpleNamespace(run_id=7, dst_node_id=9, message_type="query", group_id="2")
    )
    said = Answer(run=run, round=2, task=task, site="alder", status="ok", final=final).encode()
    assignment.content = {"header": ConfigRecord({"json": said})}
    assignment.replies = []
    assignment.reply = assignment.replies.append
    return assignment


def test_the_guard_writes_it_after_the_last_model_and_beside_no_task(
    site_file: Path,
    site: SiteFile,
    program: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = ServiceFolder(site)
    folder.make()
    watching, run = Guard(site_file, folder), site.run_folder("run-1")
    watching._pace.rest = lambda: None  # type: ignore[method-assign]
    program(HANGS)
    at_work: list[bool] = []

    def work(assignment: Any) -> None:
        def app(*_: Any) -> Any:
            at_work.append(watching._reports._program is not None)
            return SimpleNamespace(content=assignment.content)

        monkeypatch.setattr(guard, "app", app)
        watching.work(SimpleNamespace(next=lambda: nullcontext(assignment)))  # type: ignore[arg-type]

    def idle() -> None:
        watching.work(SimpleNamespace(next=lambda: nullcontext(None)))  # type: ignore[arg-type]

    work(ended("train-2", "run-1", None))
    idle()
    assert not (run / DUE).exists()
    last = ended("finish-2", "run-1", "f" * 64)
    work(last)
    assert len(last.replies) == 1
    assert (run / DUE).exists()
    idle()
    assert watching._reports._program is not None
    # A task whose tensors are counted, or that is done, finds the machine its own.
    watching.room("{}")
    assert watching._reports._program is None
    idle()
    assert watching._reports._program is not None
    work(ended("train-1", "run-2", None))
    assert at_work == [False, False, False]
    program(WRITES)
    wait(lambda: idle() or (run / PAGE).exists())  # type: ignore[func-returns-value]
    wait(lambda: idle() or not (run / DUE).exists())  # type: ignore[func-returns-value]


def test_between_two_tasks_of_a_run_it_does_not_begin(
    site_file: Path, site: SiteFile, program: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "QUIET_S", 3600.0)
    program(WRITES)
    reports = Reporter(site_file, lambda: pytest.fail("the model was forgotten"))
    reports.add("run-1")
    reports.wait()
    reports.go_on()
    assert reports._program is None


def test_pages_from_before_a_withdrawal_go_at_once(
    site: SiteFile, site_file: Path, edit: Callable[..., Path], program: Callable[[str], None]
) -> None:
    for run in ("kept", "pruned", "later"):
        folder = site.run_folder(run)
        folder.mkdir(parents=True)
        (folder / PAGE).write_text("mammograms")
    for run in ("kept", "later"):
        (site.run_folder(run) / "final").mkdir()
    listed = site_file.with_name("withdrawn.txt")
    listed.write_text("somebody\n")
    now = time.time()
    os.utime(listed, (now, now))
    for run, at in (("kept", now - 9), ("pruned", now - 9), ("later", now + 9)):
        os.utime(site.run_folder(run) / PAGE, (at, at))
    renew(site)  # no list is named
    assert len(list(site.state.glob(f"runs/*/{PAGE}"))) == 3
    data = {"source": str(site.data.source), "dataset": "dataset", "withdrawn": "withdrawn.txt"}
    named = load_site(edit(data=data | {"adapter": site.data.adapter}))
    renew(named)
    assert [page.parent.name for page in named.state.glob(f"runs/*/{PAGE}")] == ["later"]
    assert [mark.parent.name for mark in named.state.glob(f"runs/*/{DUE}")] == ["kept"]
