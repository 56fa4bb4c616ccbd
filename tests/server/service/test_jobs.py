"""Jobs: one after the other, again after a death, until the run's folder says that it is over."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.errors import ConfigError, PrivacyError, QuorumError, ServiceError, StorageError
from server.round.rehearsal import REHEARSAL
from server.run.folder import RunFolder
from server.run.history import replay
from server.service import follow as following
from server.service import jobs
from server.service.daemon import require_running
from server.service.follow import follow, prepare, submit
from server.service.job import job_of
from server.service.jobs import MOST_FUTILE, JobFile
from server.service.serverapp import settings
from tests.events import made, records
from tests.server.bench import Bench, state


def test_what_ended_a_run_is_not_always_its_last_event() -> None:
    def of(*names: str) -> str | None:
        found = replay([made({"event": name}) for name in names]).ending
        return found and found.kind

    assert of("start", "round", "finished", "received", "received") == "finished"
    assert of("start", "stopped", "problem") == "stopped"
    assert of("start", "finished", "start", "round") is None
    assert of() is None


def configured(bench: Bench, run: int) -> dict[str, str | int]:
    job = job_of(bench.home, run)
    assert job is not None
    return settings(bench.home, job)


def test_one_after_the_other(bench: Bench, folder: Callable[[str], RunFolder]) -> None:
    runs = [folder(name) for name in ("one", "two")]
    first, second = (JobFile(bench.home, run.path) for run in runs)
    first.ask()
    second.ask()
    bench.steps(3)
    assert (state(first), state(second)) == ("running", "queued")
    assert bench.control.started == 1
    assert configured(bench, 1) == {
        "out": str(runs[0].path.resolve()),
        "expected-sites": 1,
        "sites-at-once": 1,
        "rehearse": 0,
        "roster": str(bench.home.roster),
    }
    runs[0].log(made({"event": "finished"}))
    bench.control.ended.add(1)
    bench.steps(2)
    assert (state(first), state(second)) == ("finished", "running")
    assert bench.finished == [("one", True)]


def test_a_serverapp_that_dies_is_started_again(
    bench: Bench, folder: Callable[[str], RunFolder]
) -> None:
    run = folder("run")
    job = JobFile(bench.home, run.path)
    job.ask()
    bench.steps()
    run.log(made({"event": "start"}))
    bench.control.ended.add(1)
    bench.steps(2)
    assert bench.control.started == 2
    assert state(job) == "running"
    assert bench.finished == []


def test_one_that_gets_nowhere_is_given_up(
    bench: Bench, folder: Callable[[str], RunFolder]
) -> None:
    run = folder("run")
    job = JobFile(bench.home, run.path)
    job.ask()
    for number in range(1, MOST_FUTILE + 1):
        bench.steps()
        bench.control.ended.add(number)
        bench.steps()
    assert state(job) == "failed"
    found = job.read()
    assert found is not None
    assert "ended 5 times in round 1; read" in found.reason
    bench.steps(3)
    assert bench.control.started == MOST_FUTILE


def test_the_death_of_its_process_is_noticed_before_flower_does(
    bench: Bench, folder: Callable[[str], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jobs, "GONE_S", 0.0)
    job = JobFile(bench.home, folder("run").path)
    job.ask()
    # Not started yet: that is no death.
    bench.steps(3)
    assert bench.control.stopped == []
    bench.serverapp = True
    bench.steps()
    bench.serverapp = False
    bench.steps()
    assert bench.control.stopped == [1]
    bench.steps(2)
    assert bench.control.started == 2


def test_too_few_sites_end_a_run(bench: Bench, folder: Callable[[str], RunFolder]) -> None:
    run = folder("run")
    job = JobFile(bench.home, run.path)
    job.ask()
    bench.steps()
    run.log(made({"event": "stopped", "reason": "1 of at least 2 sites answered"}))
    bench.control.ended.add(1)
    bench.steps()
    assert state(job) == "failed"
    assert bench.finished == [("run", False)]
    # Asked for again, it goes on.
    job.ask()
    bench.steps()
    assert state(job) == "running"


def test_a_rehearsal_ends_with_its_result_and_the_run_comes_after_it(
    bench: Bench, folder: Callable[[str], RunFolder]
) -> None:
    run = folder("run")
    job = JobFile(bench.home, run.path)
    (run.path / REHEARSAL).write_text("of an earlier one")
    job.ask("rehearsal")
    bench.steps()
    assert configured(bench, 1)["rehearse"] == 1
    with pytest.raises(ConfigError, match="its rehearsal is at work"):
        job.ask()
    bench.control.ended.add(1)
    bench.steps(2)
    assert state(job) == "running"  # its ServerApp died, and was started again
    (run.path / REHEARSAL).write_text("{}")
    bench.control.ended.add(2)
    bench.steps()
    assert (state(job), bench.finished) == ("finished", [])
    job.ask()
    bench.steps()
    assert configured(bench, 3)["rehearse"] == 0
    with pytest.raises(ConfigError, match="its run is at work"):
        job.ask("rehearsal")
    assert (run.path / REHEARSAL).exists()


def test_stopping(bench: Bench, folder: Callable[[str], RunFolder]) -> None:
    job = JobFile(bench.home, folder("run").path)
    with pytest.raises(ConfigError, match="is no run at work"):
        job.ask_to_stop()
    job.ask()
    bench.steps()
    job.ask_to_stop()
    bench.steps()
    assert (state(job), bench.control.stopped) == ("stopped", [1])
    # The run's own folder says so too, for whoever looks at nothing else.
    assert records(RunFolder(job.out))[-1]["reason"] == "stopped on request"
    # Asked for again, it waits until the one that was stopped is gone.
    bench.serverapp = True
    job.ask()
    bench.steps(3)
    assert (state(job), bench.control.started) == ("queued", 1)
    bench.serverapp = False
    bench.steps()
    assert state(job) == "running"


def test_without_sites_nothing_starts(
    tmp_path: Path, bench: Bench, folder: Callable[[str], RunFolder]
) -> None:
    from server.federation.roster import revoke

    revoke(bench.home, "alder")
    job = JobFile(bench.home, folder("run").path)
    job.ask()
    bench.steps()
    found = job.read()
    assert found is not None
    assert (found.state, found.reason) == ("failed", "no site is enrolled; use `mama-server enrol`")


def test_without_the_service_nothing_is_asked(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match=r"demo: is not running. Start it"):
        require_running(bench.home)
    with pytest.raises(ServiceError):
        submit(bench.home, tmp_path / "run")
    assert list(bench.home.jobs.iterdir()) == []


def test_following_tells_every_event_and_how_it_ended(
    bench: Bench, folder: Callable[[str], RunFolder], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "require_running", lambda home: None)
    monkeypatch.setattr(following, "LOOK_S", 0.0)
    run = folder("run")
    run.log(made({"event": "roster"}))
    job = submit(bench.home, run.path)
    steps = iter([{"event": "start"}, {"event": "round"}, {"event": "finished"}, None, None])

    def meanwhile(seconds: float) -> None:
        bench.steps()
        if event := next(steps):
            run.log(made(event))
            if event["event"] == "finished":
                bench.control.ended.add(1)

    monkeypatch.setattr(following.time, "sleep", meanwhile)
    events: list[str] = []
    ended = follow(bench.home, job, lambda event: events.append(event.kind))
    assert ended.state == "finished"
    assert events == ["start", "round", "finished"]


@pytest.mark.parametrize(
    ("code", "error"),
    [
        (6, QuorumError),
        (9, StorageError),
        (11, PrivacyError),
        (12, ServiceError),
        (8, ServiceError),
    ],
)
def test_following_a_run_that_failed(
    bench: Bench,
    folder: Callable[[str], RunFolder],
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    error: type[Exception],
) -> None:
    monkeypatch.setattr(following, "require_running", lambda home: None)
    run = folder("run")
    job = submit(bench.home, run.path)
    found = job.read()
    assert found is not None
    for reason in ("why", f"{job.out}: why"):
        failed = {"state": "failed", "reason": reason, "exit_code": code}
        job.write(found.model_copy(update=failed))
        with pytest.raises(error) as raised:
            follow(bench.home, job, lambda event: None)
        assert str(raised.value) == f"{job.out}: why"  # the folder is named once


def test_a_folder_with_another_experiment_is_left_alone(
    bench: Bench,
    folder: Callable[[str], RunFolder],
    small_config: Callable[..., Any],
    tmp_path: Path,
) -> None:
    run = folder("run")
    config = tmp_path / "experiment.yaml"
    config.write_text(small_config().experiment().canonical_json())
    assert prepare(bench.home, config, run.path).path == run.path
    config.write_text(small_config("seed=5").experiment().canonical_json())
    with pytest.raises(ConfigError, match="holds another experiment: seed is 0 there and 5 here"):
        prepare(bench.home, config, run.path)


def test_a_run_whose_folder_is_gone_fails_and_the_next_one_begins(
    bench: Bench, folder: Callable[[str], RunFolder]
) -> None:
    gone, next_one = folder("gone"), folder("next")
    first, second = JobFile(bench.home, gone.path), JobFile(bench.home, next_one.path)
    first.ask()
    second.ask()
    bench.steps()
    shutil.rmtree(gone.path)
    bench.control.ended.add(1)
    bench.steps(3)
    assert (state(first), state(second)) == ("failed", "running")
    assert "holds no run" in first.read().reason  # type: ignore[union-attr]


def test_a_queued_run_is_stopped_at_once(bench: Bench, folder: Callable[[str], RunFolder]) -> None:
    first, second = (JobFile(bench.home, folder(name).path) for name in ("one", "two"))
    first.ask()
    second.ask()
    bench.steps(2)
    second.ask_to_stop()
    bench.steps()
    assert (state(first), state(second)) == ("running", "stopped")
