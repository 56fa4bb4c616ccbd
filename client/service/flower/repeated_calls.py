"""Patch of Flower's calls: a repeated call of an answer gets the first call's response.

Used by the client that replaces `FleetHttpClient`, flwr 1.41 and 1.42. If a connection breaks, the
coordinator may have carried out the call, and refuses its repetition; Flower's node then leaves the
rest of an announced answer unsent. No upstream thread is known. Without the patch,
tests/client/service/flower/test_repeated_calls.py fails.
"""

from typing import Any

from flwr.proto.fleet_pb2 import PushMessagesRequest
from flwr.proto.message_pb2 import PushObjectRequest, PushObjectResponse
from flwr.supercore.inflatable.inflatable_object import iterate_object_tree


class RepeatedCalls:
    """Calls of answers that failed, so that it is unknown whether they were carried out."""

    def __init__(self) -> None:
        self._failed: set[str] = set()

    def failed(self, request: Any) -> None:
        """Remember a failed call."""
        self._failed |= self._of_an_answer(request)

    def answered(self, request: Any, response: Any) -> None:
        """Turn the response to a repeated call into the one that the first would have had."""
        again = self._of_an_answer(request) & self._failed
        if not again:
            return
        self._failed -= again
        if isinstance(response, PushObjectResponse):
            response.stored = True
        elif not response.objects_to_push:
            # It was announced, and the server wants its content. Without a name the session is
            # looked up.
            trees = request.message_object_trees
            ids = {node.object_id for tree in trees for node in iterate_object_tree(tree)}
            response.objects_to_push.extend(ids)
            response.session_id = ""

    @staticmethod
    def _of_an_answer(request: Any) -> set[str]:
        if isinstance(request, PushObjectRequest):
            return {request.object_id}
        if isinstance(request, PushMessagesRequest):
            return {message.metadata.message_id for message in request.messages_list}
        return set()
