"""Calls of an answer that are repeated after a connection broke."""

from flwr.proto import message_pb2 as proto
from flwr.proto.fleet_pb2 import PushMessagesRequest, PushMessagesResponse
from flwr.proto.message_pb2 import ObjectTree, PushObjectRequest, PushObjectResponse

from client.service.flower.repeated_calls import RepeatedCalls

ANNOUNCEMENT = PushMessagesRequest(
    messages_list=[proto.Message(metadata=proto.Metadata(message_id="answer"))],
    message_object_trees=[ObjectTree(object_id="answer", children=[ObjectTree(object_id="part")])],
)


def test_an_answer_announced_before_the_connection_broke_is_sent_whole() -> None:
    """The coordinator has dropped the message, as the server has taken the announcement."""
    repeats, refused = RepeatedCalls(), PushMessagesResponse(session_id="new")
    repeats.answered(ANNOUNCEMENT, refused)
    assert (list(refused.objects_to_push), refused.session_id) == ([], "new")
    repeats.failed(ANNOUNCEMENT)
    repeats.answered(ANNOUNCEMENT, refused)
    assert (sorted(refused.objects_to_push), refused.session_id) == (["answer", "part"], "")


def test_an_announcement_that_is_new_after_all_is_left_alone() -> None:
    repeats = RepeatedCalls()
    repeats.failed(ANNOUNCEMENT)
    accepted = PushMessagesResponse(objects_to_push=["part"], session_id="new")
    repeats.answered(ANNOUNCEMENT, accepted)
    assert (list(accepted.objects_to_push), accepted.session_id) == (["part"], "new")


def test_a_piece_stored_before_the_connection_broke_is_not_refused() -> None:
    repeats, request = RepeatedCalls(), PushObjectRequest(object_id="part")
    for before, stored in ((False, False), (True, True), (False, False)):
        if before:
            repeats.failed(request)
        response = PushObjectResponse(stored=False)
        repeats.answered(request, response)
        assert response.stored is stored
