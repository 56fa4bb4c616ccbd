"""Command at the end of a run: real scripts, which cannot block or end the service."""

import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from mama.errors import ConfigError
from mama.system.supervise import Supervisor, log_to
from server.federation.home import Home
from server.run.folder import RunFolder
from server.service import daemon, on_end
from server.service.daemon import _Keeper
from server.service.job import Kind
from server.service.jobs import JobFile, JobRunner
from server.service.on_end import ended_run, run_command
from tests.events import made
from tests.server.bench import Bench, bench, folder
from tests.waiting import wait_for

__all__ = ["bench", "folder"]  # fixtures

SCRIPT = """\
#!/bin/sh
echo "$FEDMAMA_FEDERATION|$FEDMAMA_RUN|$FEDMAMA_OUTCOME|$FEDMAMA_REASON|$1" >> ended.txt
echo "sent to $1"
printf '\\033[2Jnot a terminal\\n' >&2
exit $2
"""


def ended(process: int) -> bool:
    """Return True if a process has ended, also one that nobody has waited for yet."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


class Hooked:
    """A federation whose command is a script beside its file; its service's log."""

    def __init__(self, bench: Bench, log: logging.Logger, path: Path):
        self.bench, self.log, self.log_path = bench, log, path

    def configure(self, *command: str) -> None:
        path = self.bench.home.path
        settings = yaml.safe_load(path.read_text()) | {"on_end": list(command)}
        path.write_text(yaml.safe_dump(settings))
        self.bench.home = home = Home(path)
        keeper = _Keeper(home, Supervisor([], self.log))
        self.bench.runner = JobRunner(
            home,
            self.bench.control,  # type: ignore[arg-type]
            lambda: False,
            keeper._run_ended,
        )

    def text(self, words: str) -> str:
        """The log, as soon as these words are in it."""
        wait_for(lambda: words in self.log_path.read_text())
        return self.log_path.read_text()


@pytest.fixture
def hooked(bench: Bench, tmp_path: Path) -> Iterator[Hooked]:
    log = log_to(tmp_path / "service.log", "a test of on_end")
    script = tmp_path / "notify.sh"
    script.write_text(SCRIPT)
    script.chmod(0o700)
    yield Hooked(bench, log, tmp_path / "service.log")
    for handler in log.handlers:
        handler.close()


def lines(hooked: Hooked) -> list[str]:
    return (hooked.bench.home.path.parent / "ended.txt").read_text().splitlines()


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        ({"event": "finished"}, "finished|"),
        (
            {"event": "stopped", "reason": "1 of 2\nsites $(rm -r /)"},
            "failed|1 of 2 sites $(rm -r /)",
        ),
        (None, "stopped|stopped on request"),
    ],
)
def test_a_script_hears_of_every_end_once(
    hooked: Hooked, folder: Callable[[str], RunFolder], last: dict | None, outcome: str
) -> None:
    hooked.configure("./notify.sh", "us@example.org", "0")
    bench, run = hooked.bench, folder("run")
    job = JobFile(bench.home, run.path)
    job.ask()
    bench.steps()
    assert not (bench.home.path.parent / "ended.txt").exists()  # it has only begun
    if last is None:
        job.stop.touch()
    else:
        run.log(made(last))
        bench.control.ended.add(1)
    bench.steps(4)
    text = hooked.text("exit code 0")
    assert lines(hooked) == [f"demo|{run.path.resolve()}|{outcome}|us@example.org"]
    assert "on_end | run run: sent to us@example.org" in text
    assert "\x1b" not in text
    bench.steps(3)
    JobFile(bench.home, run.path).ask()  # asked for again, it may end again
    bench.steps()
    JobFile(bench.home, run.path).stop.touch()
    bench.steps()
    wait_for(lambda: len(lines(hooked)) == 2)
    assert lines(hooked)[1].split("|")[2] == "stopped"
    wait_for(lambda: not job.unannounced.exists())


def test_a_run_whose_folder_is_gone_and_one_that_was_queued_end_too(
    hooked: Hooked, folder: Callable[[str], RunFolder], tmp_path: Path
) -> None:
    hooked.configure("./notify.sh", "x", "3")
    bench = hooked.bench
    gone, queued = (JobFile(bench.home, folder(name).path) for name in ("gone", "queued"))
    gone.ask()
    queued.ask()
    queued.stop.touch()
    bench.steps()
    bench.steps()
    shutil.rmtree(tmp_path / "gone")
    bench.control.ended.add(1)
    bench.steps(3)
    hooked.text("exit code 3")
    wait_for(lambda: len(lines(hooked)) == 2)
    assert sorted(line.split("|")[2] for line in lines(hooked)) == ["failed", "stopped"]


@pytest.mark.parametrize("kind", ["run", "rehearsal"])
def test_a_rehearsal_is_no_run(
    hooked: Hooked,
    folder: Callable[[str], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    kind: Kind,
) -> None:
    run: list[str] = []
    monkeypatch.setattr(daemon, "run_command", lambda command, ended, log: run.extend(command))
    hooked.configure("./notify.sh", "x", "0")
    bench = hooked.bench
    job = JobFile(bench.home, folder("run").path)
    job.ask(kind)
    job.stop.touch()
    bench.steps()
    assert run == (["./notify.sh", "x", "0"] if kind == "run" else [])


def test_one_that_hangs_is_killed_with_its_children_and_holds_nobody_up(
    hooked: Hooked, folder: Callable[[str], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_end, "TIMEOUT_S", 5)
    hooked.configure("/bin/sh", "-c", "sleep 600 & echo $! > child; yes; wait")
    bench = hooked.bench
    job = JobFile(bench.home, folder("run").path)
    job.ask()
    job.stop.touch()
    bench.steps()
    assert "killed after" not in hooked.log_path.read_text()
    text = hooked.text("killed after")
    assert len(text) < 2 * on_end.LONGEST_OUTPUT * 40  # of `yes`, which prints without end
    wait_for(lambda: ended(int((bench.home.path.parent / "child").read_text())))


@pytest.mark.parametrize("command", ["./absent.sh", "/", "./federation.yaml", "a\0b"])
def test_one_that_cannot_be_started_is_a_line_in_the_log(
    hooked: Hooked, folder: Callable[[str], RunFolder], command: str
) -> None:
    run = JobFile(hooked.bench.home, folder("run").path).ask()
    thread = run_command([command], ended_run(hooked.bench.home, run), hooked.log)
    thread.join(20)
    hooked.text("cannot be started")


def test_a_federation_file_that_was_broken_meanwhile_changes_no_runs_end(
    hooked: Hooked, folder: Callable[[str], RunFolder]
) -> None:
    hooked.configure("./notify.sh", "x", "0")
    bench = hooked.bench
    job = JobFile(bench.home, folder("run").path)
    job.ask()
    bench.steps()
    bench.home.path.write_text("on_ende: []\n")
    job.stop.touch()
    bench.steps(2)
    found = job.read()
    assert found is not None
    assert (found.state, found.reason) == ("stopped", "stopped on request")
    assert "unknown key 'on_ende'" in hooked.text("on_end | run run: not run: ")


def test_what_it_leaves_running_lives_on_and_its_own_environment_is_there(
    hooked: Hooked, folder: Callable[[str], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")
    monkeypatch.setattr(on_end, "LAST_WORDS_S", 0.1)
    job = JobFile(hooked.bench.home, folder("run").path).ask()
    code = "import os; print('proxy', os.environ['HTTPS_PROXY'], os.getcwd())"
    command = ["/bin/sh", "-c", f'(sleep 1; echo late > late) & "{sys.executable}" -c "{code}"']
    thread = run_command(command, ended_run(hooked.bench.home, job), hooked.log)
    thread.join(20)
    home = hooked.bench.home.path.parent
    assert f"proxy http://proxy:3128 {home}" in hooked.text("exit code 0")
    wait_for((home / "late").exists)


@pytest.mark.parametrize("value", ["notify.sh", [""], [1], {"run": "x"}])
def test_what_is_no_list_of_words_is_refused(bench: Bench, value: object) -> None:
    settings = yaml.safe_load(bench.home.path.read_text()) | {"on_end": value}
    bench.home.path.write_text(yaml.safe_dump(settings))
    with pytest.raises(ConfigError, match="on_end"):
        Home(bench.home.path)


def test_a_service_that_ends_takes_it_along(tmp_path: Path) -> None:
    """A service of a few lines, killed while its command is at work."""
    code = f"""
import logging, time, pathlib
from server.service.on_end import EndedRun, run_command
ended = EndedRun({{"FEDMAMA_RUN": "run"}}, pathlib.Path({str(tmp_path)!r}), pathlib.Path("due"))
run_command(["/bin/sh", "-c", "echo $$ > command; sleep 600"], ended, logging.getLogger("x"))
while not pathlib.Path("command").exists() or not pathlib.Path("command").read_text().strip():
    time.sleep(0.02)
"""
    root = Path(__file__).parents[3]
    subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        check=True,
    )
    wait_for(lambda: ended(int((tmp_path / "command").read_text())))


@pytest.mark.parametrize("ended_first", [True, False])
def test_an_end_is_announced_again_if_the_service_died_before_the_command_ended(
    hooked: Hooked, folder: Callable[[str], RunFolder], ended_first: bool
) -> None:
    hooked.configure("./notify.sh", "x", "0")
    bench = hooked.bench
    job = JobFile(bench.home, folder("run").path)
    job.write(job.ask().model_copy(update={"state": "stopped", "reason": "on request"}))
    job.unannounced.touch()
    if not ended_first:
        job.ask()  # asked for again meanwhile: the end to announce is a later one
    bench.steps(2)
    if ended_first:
        hooked.text("exit code 0")
        wait_for(lambda: not job.unannounced.exists())
        assert [line.split("|")[2] for line in lines(hooked)] == ["stopped"]
    else:
        assert not (bench.home.path.parent / "ended.txt").exists()
