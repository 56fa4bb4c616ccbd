"""Control API errors: a run lost by the SuperLink has ended; any other error is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from flwr.proto.control_pb2 import ListNodesResponse
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.error import ApiErrorCode, FlowerError

from mama.errors import ServiceError
from mama.exchange.signing import new_key
from server.federation.home import Home
from server.federation.provision import provision
from server.service.control import Control


@pytest.fixture
def control(tmp_path: Path) -> Callable[[httpx.Response], Control]:
    """A connection to a SuperLink that always gives this response."""
    path = tmp_path / "federation.yaml"
    path.write_text("name: demo\naddress: fl.example.org:8443\n")
    provision(Home(path))

    def make(response: httpx.Response) -> Control:
        def answer(_: Any) -> None:
            request = httpx.Request("POST", "https://x")
            raise httpx.HTTPStatusError("x", request=request, response=response)

        made = Control(Home(path))
        made._client.close()
        made._client = type("Client", (), {"ListRuns": staticmethod(answer)})()  # type: ignore[assignment]
        return made

    return make


def said(code: ApiErrorCode) -> str:
    """An error as Flower writes it."""
    return json.dumps(FlowerError(code, "of the log").to_json("of the user"))


def test_a_run_that_the_superlink_has_lost_has_ended(control: Callable[..., Control]) -> None:
    text = said(ApiErrorCode.RUN_ID_NOT_FOUND)
    assert control(httpx.Response(404, text=text)).run_ended(5)


@pytest.mark.parametrize(
    "text",
    ["", "nonsense", said(ApiErrorCode.FEDERATION_NOT_SPECIFIED)],
)
def test_any_other_error_says_nothing_of_the_run(
    control: Callable[..., Control], text: str
) -> None:
    with pytest.raises(ServiceError, match="refused"):
        control(httpx.Response(500, text=text)).run_ended(5)


def test_a_nodes_last_sign_of_life_is_that_of_its_last_heartbeat(
    control: Callable[..., Control], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = control(httpx.Response(200))
    pem = new_key().public_key()
    known = {
        "public_key": pem.public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "heartbeat_interval": 30.0,
    }
    infos = [
        NodeInfo(node_id=1, name="alder", status="online", online_until=1060.0, **known),
        NodeInfo(node_id=2, name="birch", status="registered", **known),
        NodeInfo(node_id=3, name="cedar", status="unregistered", online_until=1.0, **known),
    ]
    answer = ListNodesResponse(nodes_info=infos)
    monkeypatch.setattr(made._client, "ListNodes", lambda request: answer, raising=False)
    assert [(node.name, node.heard) for node in made.nodes()] == [
        ("alder", 1000.0),
        ("birch", None),
    ]
