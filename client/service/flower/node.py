"""Flower's SuperNode in this process, with the patches of this package."""

import sys
from ssl import SSLContext

from flwr.supernode import fleet_http_connection, start_client_internal
from flwr.supernode.cli.flower_supernode import flower_supernode

from client.service.flower.intake import pull_within
from client.service.flower.reporting_client import Report, reporting_client
from client.service.flower.whole_answers import send_whole
from client.service.polling import NodePauses


def run_node(arguments: list[str], context: SSLContext, report: Report, room: int) -> None:
    """Run Flower's SuperNode until it is stopped.

    Args:
        arguments: those of `flower-supernode`.
        context: for the connection to the coordinator; Flower's own cannot present a certificate.
        report: called after every call to the coordinator.
        room: bytes of tensors that a task can bring at most; one that brings more is dropped.
    """
    pauses = NodePauses()
    client = reporting_client(context, report, pauses)
    fleet_http_connection.FleetHttpClient = client  # type: ignore[misc]
    start_client_internal.time = pauses  # type: ignore[assignment]
    start_client_internal.pull_objects = pull_within(room)
    start_client_internal._push_messages = send_whole
    sys.argv = ["flower-supernode", *arguments]
    flower_supernode()
