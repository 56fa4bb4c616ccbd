"""Patch of Flower's node: an answer is sent when it is whole, and exactly once per task.

Replaces `flwr.supernode.start_client_internal._push_messages`, flwr 1.41 and 1.42. Flower announces
a reply while the ClientApp's process is still handing it over, sends any reply that is stored, and
waits without limit for one of which only a part exists. If the process dies at that moment, the
coordinator waits for the rest, or each reply is taken for that of the next task. Upstream:
flwrlabs/flower#7139 made error replies depend on the type of task, not on the task. Without the
patch, tests/client/service/flower/test_whole_answers.py fails.
"""

from collections.abc import Sequence
from typing import Any

from flwr.app import Message
from flwr.common.constant import Status
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree
from flwr.supercore.object_store import NoObjectInStoreError, ObjectStore
from flwr.supernode import start_client_internal
from flwr.supernode.nodestate.in_memory_nodestate import (
    CLIENT_APP_CRASHED_ERROR,
    InMemoryNodeState,
)

UNFINISHED = (Status.PENDING, Status.STARTING, Status.RUNNING)
SEND = start_client_internal._push_messages


def send_whole(state: Any, object_store: ObjectStore, *arguments: Any, **more: Any) -> None:
    """Wait for the next answer and send it, as Flower's own does with the node's plain state."""
    whole: Any = WholeAnswers(state, object_store)
    SEND(whole, object_store, *arguments, **more)


class WholeAnswers:
    """View of the node's state for the part that waits for answers and sends them.

    An answer is returned when it is complete and its task is waiting for it. A task that ended
    without an answer gets an error as its answer.
    """

    def __init__(self, state: InMemoryNodeState, store: ObjectStore):
        self._state, self._store = state, store
        # For an expired process, Flower answers all tasks of the run, also one that is at work.
        state._on_task_tokens_expired = lambda tasks: None  # type: ignore[method-assign]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def get_messages_legacy(self, *, is_reply: bool) -> list[Message]:
        """Return the answer to the task at work, or nothing yet; Flower asks again and again."""
        # First, because an answer is whole before its task ends.
        at_work = {task.run_id for task in self._state.get_tasks(statuses=UNFINISHED)}
        with self._state.lock_msg_store:
            kept = {name: entry.message for name, entry in self._state.msg_store.items()}
            for name, message in kept.items():
                if question := message.metadata.reply_to_message_id:
                    if question not in kept:
                        self.delete_messages(message_ids=[name])
                    elif self._is_whole(name):
                        return [message]
            for message in kept.values():
                metadata = message.metadata
                if not metadata.reply_to_message_id and metadata.run_id not in at_work:
                    return [self._without_answer(message)]
        return []

    def delete_messages(self, *, message_ids: Sequence[str]) -> None:
        """Delete an answer that was sent, its task, other answers to it, and all their pieces."""
        with self._state.lock_msg_store:
            kept = self._state.msg_store.items()
            others = {n for n, e in kept if e.message.metadata.reply_to_message_id in message_ids}
            gone = others.union(message_ids)
            self._state.delete_messages(message_ids=list(gone))
            for name in gone:
                self._store.delete(name)

    def _is_whole(self, name: str) -> bool:
        try:
            tree = self._store.get_object_tree(name)
        except NoObjectInStoreError:  # Flower gave it up, pieces first
            return False
        return all(self._store.get(part.object_id) for part in iterate_object_tree(tree))

    def _without_answer(self, task: Message) -> Message:
        answer = Message(CLIENT_APP_CRASHED_ERROR, reply_to=task)
        answer.metadata.__dict__["_message_id"] = answer.object_id
        self._state._store_generated_message(answer)
        return answer
