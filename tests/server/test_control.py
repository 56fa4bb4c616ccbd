"""The Control API's errors: a run that the SuperLink has lost has ended, anything else is one line."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from flwr.supercore.error import ApiErrorCode, FlowerError

from mama.errors import ServiceError
from server.control import Control
from server.federation import Home
from server.provision import provision


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
