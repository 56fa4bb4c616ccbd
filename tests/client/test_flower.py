"""What the site changes in Flower's node and runtime client; the rest is tested with real processes."""

import time
from unittest.mock import Mock

import httpx
import pytest
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import (
    Message,
    Metadata,
    ObjectTree,
    PushObjectRequest,
    PushObjectResponse,
)
from flwr.supercore.protobuf.client import ProtobufRequestContext

from client import flower
from client.flower import StalledError, _OneCallAConnection, _Pace, _Repeats


@pytest.fixture
def pace(monkeypatch: pytest.MonkeyPatch) -> _Pace:
    """A node's pace whose clock stands still until it is moved; its pauses take no time."""
    made = _Pace()
    monkeypatch.setattr(flower.time, "sleep", lambda seconds: None)
    return made


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    now = time.monotonic()
    monkeypatch.setattr(flower.time, "monotonic", lambda: now + seconds)


def test_an_answer_whose_rest_does_not_come_is_given_up(
    pace: _Pace, monkeypatch: pytest.MonkeyPatch
) -> None:
    pace.called("/v1/fleet/push-messages")
    pace.called("/v1/fleet/push-object")
    pace.sleep(0.5)
    later(monkeypatch, 61)
    pace.called("/v1/fleet/send-node-heartbeat")  # it says nothing of the loop
    with pytest.raises(StalledError):
        pace.sleep(0.5)
    pace.sleep(0.5)  # and the loop goes on


def test_training_may_take_hours(pace: _Pace, monkeypatch: pytest.MonkeyPatch) -> None:
    for call in ("push-messages", "push-object", "pull-messages", "confirm-message-received"):
        pace.called(f"/v1/fleet/{call}")
    later(monkeypatch, 7200)
    pace.sleep(0.5)
    pace.sleep(3)


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
    messages_list=[Message(metadata=Metadata(message_id="answer"))],
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
