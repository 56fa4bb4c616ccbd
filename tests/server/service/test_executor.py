"""The executor's decisions: what is ours is started, all else ends at once and starts nothing."""

import json
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from flwr.proto.runtime_pb2 import AcquireTaskResponse, PushTaskOutputRequest
from flwr.proto.task_pb2 import Task
from flwr.supercore.constant import TaskType

from mama.system.sealed import write_sealed
from server.federation.home import Home
from server.federation.provision import provision
from server.service import executor as module
from server.service.control import bundle
from server.service.executor import Executor
from server.service.job import Job

OURS = bundle().hash_str


class Link:
    """The SuperLink's side: tasks that wait, and how each ended."""

    def __init__(self) -> None:
        self.waiting: list[Task] = []
        self.ended: list[PushTaskOutputRequest] = []

    def AcquireTask(self, request: Any) -> AcquireTaskResponse:  # noqa: N802
        if not self.waiting:
            return AcquireTaskResponse()
        return AcquireTaskResponse(task=self.waiting.pop(0), token="secret-token")

    def PushTaskOutput(self, request: PushTaskOutputRequest) -> None:  # noqa: N802
        self.ended.append(request)

    def close(self) -> None:
        pass


class Process:
    """A ServerApp's process that never ends; `given` is what came on its standard input."""

    def __init__(self, command: list[str], **_: Any):
        self.command, self.given, self.stdin = command, b"", self

    def write(self, data: bytes) -> None:
        self.given += data

    def poll(self) -> None:
        return None

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    path = tmp_path / "federation.yaml"
    path.write_text("name: demo\naddress: fl.example.org:8443\n")
    home, link, started = Home(path), Link(), []
    provision(home)
    home.jobs.mkdir()

    def start(command: list[str], **settings: Any) -> Process:
        started.append(Process(command, **settings))
        return started[-1]

    monkeypatch.setattr(Executor, "_client", lambda self, authentication: link)
    monkeypatch.setattr(module.subprocess, "Popen", start)
    return SimpleNamespace(home=home, link=link, started=started, executor=Executor(home))


def write_job(home: Home, run: int, state: Any = "running") -> None:
    job = Job(out=home.state / "run", asked=0, state=state, flower_run=run)
    write_sealed(home.jobs / f"{run}.json", job.model_dump(mode="json"))


def task(run: int, fab: str = OURS, kind: str = TaskType.SERVER_APP) -> Task:
    return Task(task_id=run, run_id=run, fab_hash=fab, type=kind)


def test_a_run_of_the_queue_is_started_with_its_token_on_no_command_line(
    bench: SimpleNamespace,
) -> None:
    write_job(bench.home, 7)
    bench.link.waiting = [task(7)]
    assert bench.executor.step()
    (process,) = bench.started
    assert process.command[1:] == [
        "-I",
        "-m",
        "server.service.serverapp",
        str(bench.home.path),
        "7",
    ]
    assert process.given == b"secret-token"
    assert bench.link.ended == []
    assert not bench.executor.step()


@pytest.mark.parametrize(
    ("foreign", "reason"),
    [
        (task(7, fab="0" * 64), "its bundle is another"),
        (task(7, fab=OURS.upper()), "its bundle is another"),
        (task(7, fab=""), "its bundle is another"),
        *((task(7, kind=kind), "it is a task for") for kind in TaskType if "server" not in kind),
        (task(7, kind="\x1b[2Jnew\n"), "it is a task for [2Jnew"),
    ],
)
def test_all_else_ends_at_once(
    bench: SimpleNamespace, caplog: pytest.LogCaptureFixture, foreign: Task, reason: str
) -> None:
    write_job(bench.home, 7)
    bench.link.waiting = [foreign]
    bench.executor.step()
    assert bench.started == []
    (end,) = bench.link.ended
    assert (end.sub_status, end.details) == ("failed", "refused")
    (record,) = caplog.records
    assert record.getMessage().startswith(f"refused run 7: {reason}")
    assert record.getMessage().isprintable()


@pytest.mark.parametrize("state", ["queued", "finished", "failed", "stopped"])
def test_a_run_that_is_not_at_work_in_the_queue_is_refused_after_a_moment(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    write_job(bench.home, 7, state)
    write_job(bench.home, 8)
    bench.link.waiting = [task(7)]
    bench.executor.step()
    assert (bench.started, bench.link.ended) == ([], [])
    # Meanwhile the next is not held up.
    bench.link.waiting = [task(8)]
    bench.executor.step()
    assert len(bench.started) == 1
    later = time.monotonic() + module.UNKNOWN_S + 1
    monkeypatch.setattr(module.time, "monotonic", lambda: later)
    bench.executor.step()
    assert len(bench.started) == 1
    assert [end.sub_status for end in bench.link.ended] == ["failed"]


def test_a_job_written_after_its_run_was_on_offer_counts(bench: SimpleNamespace) -> None:
    bench.link.waiting = [task(7)]
    bench.executor.step()
    assert bench.started == []
    write_job(bench.home, 7)
    bench.executor.step()
    assert len(bench.started) == 1


def test_a_damaged_job_holds_nobody_up(bench: SimpleNamespace) -> None:
    (bench.home.jobs / "0.json").write_text("[1, 2]")
    write_job(bench.home, 7)
    bench.link.waiting = [task(7)]
    bench.executor.step()
    assert len(bench.started) == 1
    assert [path.name for path in bench.home.jobs.glob("*.damaged")] == ["0.damaged"]


def test_a_refusal_that_the_superlink_did_not_hear_is_not_repeated(
    bench: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(request: Any) -> None:
        raise httpx.ConnectError("refused")

    bench.link.waiting = [task(7, fab="")]
    with monkeypatch.context() as patch:
        patch.setattr(bench.link, "PushTaskOutput", away)
        with pytest.raises(httpx.ConnectError):
            bench.executor.step()
    assert not bench.executor.step()
    assert bench.link.ended == []


def test_no_run_brings_a_configuration() -> None:
    """Flower refuses every key of a run's configuration that its bundle lacks; ours has none."""
    from flwr.cli.config_utils import get_fab_config
    from flwr.common.config import flatten_dict, fuse_dicts

    ours = flatten_dict(get_fab_config(bundle().content)["tool"]["flwr"]["app"].get("config"))
    assert json.dumps(ours) == "{}"
    with pytest.raises(ValueError, match="out"):
        fuse_dicts(ours, {"out": "/etc"}, check_keys=True)


def test_the_coordinators_service_and_its_executor_load_no_torch() -> None:
    """They run for months beside nginx, and start in seconds."""
    code = (
        "import sys, server.service.daemon, server.service.executor; "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
