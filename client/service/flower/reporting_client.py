"""Patch of Flower's connection to the coordinator: client certificate, reports, ended runs.

Replaces `flwr.supernode.fleet_http_connection.FleetHttpClient`, flwr 1.41 and 1.42, which cannot
present a certificate and reports no call. Flower's exception for a stopped run derives from
BaseException and bypasses the code that gives a message up: the task would wait two hours for its
content, with all tasks behind it. No upstream thread is known. Without the patch,
tests/deployment/test_refusals.py and test_kills.py fail.
"""

from collections.abc import Callable
from ssl import SSLContext
from typing import Any, Self

import httpx
from flwr.proto.fleet_pb2 import ActivateNodeResponse
from flwr.supercore.error import FlowerError
from flwr.supernode.fleet_http_client import FleetHttpClient

from client.service.flower.repeated_calls import RepeatedCalls
from client.service.polling import NodePauses
from mama.system.logs import printable

# Called after each call to the coordinator: its path, the node's id once known, and the error.
Report = Callable[[str, int | None, str | None], None]
ACTIVATE = "/activate-node"
NOT_ADMITTED = "the coordinator does not admit this key: not enrolled, or revoked"
# Calls by which a node takes a message's content.
OF_A_MESSAGE = ("/pull-object", "/confirm-message-received")


class RunOverError(Exception):
    """The coordinator stopped the run while a message of it was being transferred."""


def reporting_client(
    context: SSLContext, report: Report, pauses: NodePauses
) -> type[FleetHttpClient]:
    """Return a client class whose calls are reported.

    Args:
        context: for the connection to the coordinator.
        report: called after every call.
        pauses: pauses of the node, which depend on its calls.
    """
    repeats = RepeatedCalls()

    class ReportingClient(FleetHttpClient):
        @classmethod
        def from_server_address(  # type: ignore[override]
            cls, address: str, *_: Any, **more: Any
        ) -> Self:
            return cls(f"https://{address}", verify=context, interceptors=more["interceptors"])

        def _unary_unary(self, *, path: str, request: Any, **arguments: Any) -> Any:
            try:
                response = super()._unary_unary(path=path, request=request, **arguments)
            except Exception as error:
                report(path, None, reason_of(error, path))
                repeats.failed(request)
                if _run_is_over(error) and path.endswith(OF_A_MESSAGE):
                    raise RunOverError from error
                raise
            node = response.node_id if isinstance(response, ActivateNodeResponse) else None
            report(path, node, None)
            pauses.called(path)
            repeats.answered(request, response)
            return response

    return ReportingClient


def reason_of(error: Exception, path: str) -> str:
    """Return one printable line on a failed call."""
    if isinstance(error, httpx.HTTPStatusError):
        code, detail = error.response.status_code, FlowerError.from_json(error.response.text)
        if code == httpx.codes.UNAUTHORIZED:
            return (
                "the coordinator refuses this site's signed time: set this machine's clock by NTP"
            )
        if path.endswith(ACTIVATE) and code == httpx.codes.PRECONDITION_FAILED:
            return NOT_ADMITTED
        return printable(detail.message) if detail else f"HTTP {code}"
    return printable(f"{type(error).__name__}: {error}")


def _run_is_over(error: Exception) -> bool:
    return (
        isinstance(error, httpx.HTTPStatusError)
        and error.response.status_code == httpx.codes.FORBIDDEN
    )
