"""Flower side of a site: only the node's own configuration names the site file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.app.user_config import UserConfig

from client.app import make_app
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task
from sim.engines.inprocess import InProcessGrid


def ask(
    header: str,
    payload: bytes = b"",
    *,
    node: dict[str, Any],
    run: dict[str, Any] | None = None,
    kind: str = MessageType.QUERY,
    content: RecordDict | None = None,
) -> tuple[Answer, bytes]:
    """What the app answers on a node with these configurations, through the wire format."""
    grid = InProcessGrid(make_app(), [])
    grid._contexts[1] = Context(
        run_id=1,
        node_id=1,
        node_config=UserConfig(node),
        state=RecordDict(),
        run_config=UserConfig(run or {}),
    )
    block = Array(dtype="uint8", shape=(len(payload),), stype="safetensors", data=payload)
    whole = RecordDict(
        {"header": ConfigRecord({"json": header}), "payload": ArrayRecord({"tensors": block})}
    )
    (name,) = grid.push_messages([Message(content or whole, 1, kind)])
    (reply,) = grid.pull_messages([name])
    assert set(reply.content) == {"header", "payload"}
    assert list(reply.content.config_records["header"]) == ["json", "signature"]
    return (
        Answer.decode(reply.content.config_records["header"]["json"]),
        reply.content.array_records["payload"]["tensors"].data,
    )


def test_a_site_answers_over_the_wire(
    site_file: Path, make_task: Callable[..., Task], payload: bytes
) -> None:
    node = {"site-file": str(site_file)}
    described, nothing = ask(make_task("describe").encode(), node=node)
    assert (described.site, described.status, nothing) == ("alder", "ok", b"")
    trained, update = ask(make_task().encode(), payload, node=node, kind=MessageType.TRAIN)
    assert (trained.site, trained.status) == ("alder", "ok")
    assert len(update) > 1000
    counted, _ = ask(make_task("evaluate").encode(), payload, node=node, kind=MessageType.EVALUATE)
    assert counted.evaluation is not None


@pytest.mark.parametrize(
    "node", [{}, {"site-file": ""}, {"site-file": "/nothing/here.yaml"}, {"site-file": 7}]
)
def test_a_node_without_a_site_file(node: dict[str, Any], make_task: Callable[..., Task]) -> None:
    reply, tensors = ask(make_task("describe").encode(), node=node)
    assert (reply.status, reply.site, tensors) == (ErrorCode.SITE_FILE, "unknown", b"")
    assert "nothing" not in reply.encode()


def test_the_runs_configuration_names_no_place(
    site_file: Path, make_task: Callable[..., Task], tmp_path: Path
) -> None:
    """It comes from the coordinator, who decides nothing about a hospital's disks."""
    header = make_task("describe").encode()
    reply, _ = ask(header, node={}, run={"site-file": str(site_file)})
    assert reply.status == ErrorCode.SITE_FILE

    elsewhere = {
        "site-file": str(tmp_path / "other.yaml"),
        "data": "/",
        "state": str(tmp_path / "stolen"),
        "out": str(tmp_path / "stolen"),
    }
    reply, _ = ask(header, node={"site-file": str(site_file)}, run=elsewhere)
    assert (reply.status, reply.site) == ("ok", "alder")
    assert not (tmp_path / "stolen").exists()


def test_a_message_without_header_or_payload(
    site_file: Path, make_task: Callable[..., Task]
) -> None:
    node = {"site-file": str(site_file)}
    for content in (
        RecordDict(),
        RecordDict({"header": ConfigRecord({"json": 7})}),
        RecordDict({"header": ConfigRecord({"other": "x"})}),
        RecordDict({"header": ConfigRecord({"json": make_task().encode()})}),
    ):
        reply, _ = ask("", node=node, content=content, kind=MessageType.TRAIN)
        assert reply.status == ErrorCode.BAD_REQUEST
