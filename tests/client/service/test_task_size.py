"""The guard has room for what an honest coordinator sends with a task, and for nothing else."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError
from google.protobuf.message import DecodeError

from client.service.flower import runtime
from client.service.flower.runtime import Runtime
from client.service.task_size import WAVE_BYTES, room_of
from client.training import tasks
from mama.errors import ProtocolError
from mama.exchange.codecs.block import MAX_HEADER
from mama.exchange.protocol import WAVES, Task

MakeTask = Callable[..., Task]


def test_the_model_fits_and_little_more(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    for kind in ("train", "evaluate", "finish", "rehearse"):
        room = room_of(site_file, make_task(kind).encode())
        assert len(payload) <= room < 1.2 * len(payload) + MAX_HEADER


def test_other_tasks_bring_little(site_file: Path, make_task: MakeTask) -> None:
    assert room_of(site_file, make_task("describe").encode()) == 0
    for kind in WAVES:
        assert room_of(site_file, make_task(kind).encode()) == WAVE_BYTES


@pytest.mark.parametrize("header", [None, 7, b"x", "", "{}", "[" * 100_000])
def test_what_is_no_task_brings_nothing(site_file: Path, header: object) -> None:
    assert room_of(site_file, header) == 0


def test_a_task_that_the_site_refuses_brings_nothing(
    site_file: Path, make_task: MakeTask, edit: Callable[..., Path]
) -> None:
    header = make_task("train").encode()
    assert room_of(site_file, make_task("train", experiment="{}").encode()) == 0
    assert room_of(site_file.with_name("missing.yaml"), header) == 0
    edit(policy={"max_local_steps": 1})
    assert room_of(site_file, header) == 0


def test_under_a_policy_that_became_weaker_nothing_is_built(
    site_file: Path, make_task: MakeTask, edit: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    header = make_task("train").encode()
    edit(policy={"require_privacy": True})
    assert room_of(site_file, header) == 0
    edit(policy={"require_privacy": False})
    monkeypatch.setattr(tasks, "build_model", Mock(side_effect=AssertionError))
    assert room_of(site_file, header) == 0
    tasks.build_model.assert_not_called()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "error",
    [
        *(ValueError(), TypeError(), KeyError(), AttributeError(), RecursionError()),
        *(DecodeError(), MemoryError(), ProtocolError("too large"), RuntimeError()),
        ObjectPullError("a", "gone"),
    ],
)
def test_a_task_that_cannot_be_read_is_ended_and_the_next_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception
) -> None:
    node = Mock()
    node.AcquireTask.return_value = SimpleNamespace(
        token="abc", HasField=lambda name: True, task=SimpleNamespace(type="clientapp")
    )
    monkeypatch.setattr(Runtime, "_client", lambda self, authentication: node)
    monkeypatch.setattr(runtime, "Assignment", Mock(side_effect=error))
    monkeypatch.setattr(runtime, "HeartbeatSender", Mock())
    asked = Runtime("127.0.0.1:9", b"x" * 32, tmp_path / "unfinished")
    for _ in range(2):
        with asked.next() as assignment:
            assert assignment is None
    ended = [call.args[0].sub_status for call in node.PushTaskOutput.call_args_list]
    assert ended == ["failed", "failed"]
    assert not (tmp_path / "unfinished").exists()
