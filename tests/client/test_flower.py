"""What the site changes in Flower's node and runtime client; the rest is tested with real processes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import httpx
import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.proto import message_pb2 as proto
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest, PushObjectResponse
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.protobuf.client import ProtobufRequestContext
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from client import flower
from client.flower import Runtime, _OneCallAConnection, _Repeats

RUN, NODE = 7, 5


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of Flower's has one; messages are made of it."""
    for key, value in (("_run_id", RUN), ("_node_id", NODE), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, key, value)


class Node:
    """The state of Flower's node, and the part of it that sends, with a coordinator that takes everything.

    In the node's pauses the guard acts: one thing of `happenings` after the other.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = InMemoryObjectStore()
        self.state = InMemoryNodeState(self.store)
        self.sent: list[Sent] = []
        self.happenings: list[Callable[[], object]] = []
        monkeypatch.setattr(flower.start_client_internal, "time", self)

    def sleep(self, _: float) -> None:
        """Stands for Flower's pause."""
        assert self.happenings, "the node waits for ever"
        self.happenings.pop(0)()

    def receive(self) -> Message:
        """A task comes, and the guard claims it."""
        self.task = self.state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN)
        message = Message(RecordDict(), NODE, "train")
        message.metadata.__dict__["_message_id"] = message.object_id
        self.state._store_generated_message(message)
        self.state.store_message(message)
        assert self.state.claim_task(self.task)
        return message

    def take(self) -> Message:
        """It also takes the message, and confirms that it has the content."""
        message = self.receive()
        assert self.state.activate_task(self.task)
        assert self.state.get_messages_legacy(run_ids=[RUN], is_reply=False) == [message]
        self.store.delete(message.object_id)
        return message

    def announce(self, answer: Message) -> list[str]:
        """What a guard does first with an answer; returns the pieces that are to follow."""
        answer.metadata.__dict__["_message_id"] = answer.object_id
        session = self.state.start_session(RUN)
        tree = get_object_tree(answer)
        return self.state.store_message_and_object_tree(answer, tree, session)[1]

    def hand_over(self, answer: Message, pieces: list[str]) -> None:
        """What it does then."""
        objects = get_all_nested_objects(answer)
        for piece in pieces:
            self.store.put(piece, objects[piece].deflate())

    def reply(self, answer: Message) -> None:
        """All of it, and the end of the task."""
        self.hand_over(answer, self.announce(answer))
        self.state.finish_task(self.task, SubStatus.COMPLETED, "")

    def give_up(self) -> None:
        """What the next guard does."""
        self.state.finish_task(self.task, SubStatus.FAILED, "")

    def send(self, *happenings: Callable[[], object]) -> None:
        """Flower's own loop, until it has sent something."""
        self.happenings = list(happenings)

        def push_object(run: int, session: str, piece: str, content: bytes) -> None:
            assert content
            self.sent[-1].pieces.add(piece)

        def send(message: Message, tree: ObjectTree, seconds: float) -> tuple[set[str], str]:
            self.sent.append(Sent(message.metadata.reply_to_message_id, message.has_error()))
            return {node.object_id for node in iterate_object_tree(tree)}, "session"

        flower._send_whole(self.state, self.store, send=send, push_object=push_object)
        assert self.happenings == []


@dataclass
class Sent:
    """An answer that went to the coordinator."""

    task: str
    error: bool
    pieces: set[str] = field(default_factory=set)


def answer_to(task: Message) -> Message:
    """The same content each time, in several pieces."""
    update = Array(dtype="uint8", shape=(3,), stype="safetensors", data=b"abc")
    return Message(RecordDict({"payload": ArrayRecord({"tensors": update})}), reply_to=task)


@pytest.fixture
def node(monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(monkeypatch)


def nothing_was_sent(node: Node, before: int = 0) -> Callable[[], None]:
    def check() -> None:
        assert len(node.sent) == before

    return check


def next_task_is_answered(node: Node) -> None:
    """Another task goes well: its own answer is sent, whole, and nothing is left at the node."""
    task = node.take()
    answer = answer_to(task)
    node.send(lambda: node.reply(answer))
    pieces = {part.object_id for part in iterate_object_tree(get_object_tree(answer))}
    assert node.sent[-1] == Sent(task.object_id, False, pieces)
    assert (node.state.msg_store, len(node.store)) == ({}, 0)


def test_an_answer_is_sent_once_it_is_whole(node: Node) -> None:
    answer = answer_to(node.take())
    pieces: list[str] = []
    node.send(
        lambda: pieces.extend(node.announce(answer)),
        lambda: node.hand_over(answer, pieces[:2]),
        nothing_was_sent(node),
        lambda: node.hand_over(answer, pieces[2:]),
    )
    assert len(pieces) > 2
    assert node.sent == [Sent(answer.metadata.reply_to_message_id, False, set(pieces))]
    next_task_is_answered(node)


@pytest.mark.parametrize("handed_over", [0, 1, 2])
def test_a_guard_that_dies_as_its_answer_goes_out(node: Node, handed_over: int) -> None:
    """The next one's answer has the pieces of the first's."""
    task = node.take()
    killed = answer_to(task)
    node.hand_over(killed, node.announce(killed)[:handed_over])
    node.send(nothing_was_sent(node), node.give_up)
    assert [(sent.task, sent.error) for sent in node.sent] == [(task.object_id, True)]
    next_task_is_answered(node)


def test_an_answer_whose_pieces_flower_has_given_up_is_none(node: Node) -> None:
    task = node.take()
    answer = answer_to(task)
    node.announce(answer)
    node.store.delete(answer.object_id)  # its message follows
    node.send(nothing_was_sent(node), node.give_up)
    assert [(sent.task, sent.error) for sent in node.sent] == [(task.object_id, True)]
    next_task_is_answered(node)


def test_a_guard_that_dies_before_it_has_the_message(node: Node) -> None:
    task = node.receive()
    node.send(nothing_was_sent(node), node.give_up)
    assert [(sent.task, sent.error) for sent in node.sent] == [(task.object_id, True)]
    assert (node.state.msg_store, len(node.store)) == ({}, 0)  # nor its content
    next_task_is_answered(node)


def test_a_task_whose_end_the_node_was_not_told_costs_the_next_nothing(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = answer_to(node.take())
    node.hand_over(answer, node.announce(answer))
    node.send()
    task = node.take()
    second = answer_to(task)

    def the_first_expires() -> None:
        later = now() + timedelta(minutes=5)
        node.state.task_token_store[node.task].active_until = later + timedelta(minutes=1)
        monkeypatch.setattr(in_memory_corestate, "now", lambda: later)

    node.send(the_first_expires, nothing_was_sent(node, 1), lambda: node.reply(second))
    assert [(sent.task, sent.error) for sent in node.sent[1:]] == [(task.object_id, False)]


def test_a_task_given_up_after_its_answer_was_sent_is_not_answered_twice(node: Node) -> None:
    answer = answer_to(node.take())
    node.hand_over(answer, node.announce(answer))
    node.send()
    node.give_up()
    next_task_is_answered(node)
    assert [sent.error for sent in node.sent] == [False, False]


def test_a_guard_that_dies_and_has_no_successor(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flower's node waits a minute for a sign of life."""
    answer = answer_to(node.take())
    node.hand_over(answer, node.announce(answer)[:1])
    node.send(
        nothing_was_sent(node),
        lambda: monkeypatch.setattr(
            in_memory_corestate, "now", lambda: now() + timedelta(minutes=5)
        ),
    )
    assert [sent.error for sent in node.sent] == [True]
    monkeypatch.setattr(in_memory_corestate, "now", now)
    next_task_is_answered(node)


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
    _OneCallAConnection().intercept(
        context, lambda one: sent.append(one.request.headers["connection"]) or httpx.Response(200)
    )
    assert sent == ["close"]


ANNOUNCEMENT = PushMessagesRequest(
    messages_list=[proto.Message(metadata=proto.Metadata(message_id="answer"))],
    message_object_trees=[ObjectTree(object_id="answer", children=[ObjectTree(object_id="part")])],
)


def test_an_answer_announced_before_the_connection_broke_is_sent_whole() -> None:
    """The coordinator does not know the message any more, because the server has taken the announcement."""
    repeats, refused = _Repeats(), PushMessagesResponse(session_id="new")
    repeats.answered(ANNOUNCEMENT, refused)
    assert (list(refused.objects_to_push), refused.session_id) == ([], "new")
    repeats.failed(ANNOUNCEMENT)
    repeats.answered(ANNOUNCEMENT, refused)
    assert (sorted(refused.objects_to_push), refused.session_id) == (["answer", "part"], "")


def test_an_announcement_that_is_new_after_all_is_left_alone() -> None:
    repeats = _Repeats()
    repeats.failed(ANNOUNCEMENT)
    accepted = PushMessagesResponse(objects_to_push=["part"], session_id="new")
    repeats.answered(ANNOUNCEMENT, accepted)
    assert (list(accepted.objects_to_push), accepted.session_id) == (["part"], "new")


def test_a_piece_stored_before_the_connection_broke_is_not_refused() -> None:
    repeats, request = _Repeats(), PushObjectRequest(object_id="part")
    for before, stored in ((False, False), (True, True), (False, False)):
        if before:
            repeats.failed(request)
        response = PushObjectResponse(stored=False)
        repeats.answered(request, response)
        assert response.stored is stored
