"""Answers that Flower's node sends: whole, once per task, whatever happens to the guard."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from flwr.app import Array, ArrayRecord, Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.proto.message_pb2 import ObjectTree
from flwr.supercore.constant import TaskType
from flwr.supercore.corestate import in_memory_corestate
from flwr.supercore.date import now
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.object_store.in_memory_object_store import InMemoryObjectStore
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate.in_memory_nodestate import InMemoryNodeState

from client.service.flower import whole_answers

RUN, NODE = 7, 5


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process of Flower's has one; messages are made of it."""
    for key, value in (("_run_id", RUN), ("_node_id", NODE), ("_task_id", 1)):
        monkeypatch.setattr(TaskIdentity, key, value)


class Node:
    """State of Flower's node and its sender, with a coordinator that accepts everything.

    In the node's pauses the guard acts: one thing of `happenings` after the other.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.store = InMemoryObjectStore()
        self.state = InMemoryNodeState(self.store)
        self.sent: list[Sent] = []
        self.happenings: list[Callable[[], object]] = []
        monkeypatch.setattr(whole_answers.start_client_internal, "time", self)

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

        whole_answers.send_whole(self.state, self.store, send=send, push_object=push_object)
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


def test_a_task_whose_end_did_not_reach_the_node_costs_the_next_nothing(
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
