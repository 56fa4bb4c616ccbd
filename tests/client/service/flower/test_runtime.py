"""The guard's client of the node's runtime API; the rest is tested with real processes."""

from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
from flwr.supercore.protobuf.client import ProtobufRequestContext

from client.service.flower.runtime import OneCallAConnection, Runtime


@pytest.mark.parametrize("left", [b"", b"token\nclient\n\x0a\xff", b"\x00", "é".encode()])
def test_a_damaged_note_of_the_task_at_work_is_forgotten(tmp_path: Path, left: bytes) -> None:
    note = tmp_path / "unfinished"
    note.write_bytes(left)
    Runtime("127.0.0.1:9", b"x" * 32, note)._give_up_unfinished()
    assert not note.exists()


def test_a_task_is_not_forgotten_while_the_node_does_not_answer(tmp_path: Path) -> None:
    note = tmp_path / "unfinished"
    note.write_text("0123abcd")
    with pytest.raises(httpx.TransportError):
        Runtime("127.0.0.1:9", b"x" * 32, note)._give_up_unfinished()
    assert note.exists()


def test_a_connection_is_for_one_call() -> None:
    """Else a call may meet one that the node drops just then."""
    request = httpx.Request("POST", "http://127.0.0.1/v1/runtime/acquire-task")
    context = ProtobufRequestContext("/flwr.proto.Runtime/AcquireTask", Mock(), request)
    sent: list[str] = []
    OneCallAConnection().intercept(
        context, lambda one: sent.append(one.request.headers["connection"]) or httpx.Response(200)
    )
    assert sent == ["close"]
