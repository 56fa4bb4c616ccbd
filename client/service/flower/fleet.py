"""Single calls to the coordinator outside the node: unregister a killed node, test a key."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
from flwr.proto.fleet_pb2 import ActivateNodeRequest, DeactivateNodeRequest
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from client.identity.enrolment import own_key
from client.identity.tls import context_for
from client.service.flower.reporting_client import ACTIVATE, reason_of
from client.site.config import CoordinatorConfig

HEARTBEAT_S = 30.0
# Pause of a killed node after it was unregistered. Meanwhile the server, which polls ten times a
# second, sees that the node's task is lost and can re-send it. Without unregistering, Flower would
# refuse the node for a minute.
ABSENCE_S = 10.0


def say_goodbye(coordinator: CoordinatorConfig, node: int) -> bool:
    """Unregister this site's killed node; return whether the coordinator had it registered."""
    with _fleet(coordinator) as (client, _), suppress(httpx.HTTPError):
        client.DeactivateNode(DeactivateNodeRequest(node_id=node))
        return True
    return False


def rejection_of(coordinator: CoordinatorConfig) -> str | None:
    """Connect once and return the reason for a rejected key, or None; not while the node runs."""
    with _fleet(coordinator) as (client, public):
        request = ActivateNodeRequest(public_key=public, heartbeat_interval=HEARTBEAT_S)
        try:
            node = client.ActivateNode(request).node_id
            client.DeactivateNode(DeactivateNodeRequest(node_id=node))
        except httpx.HTTPError as error:
            return reason_of(error, ACTIVATE)
    return None


@contextmanager
def _fleet(coordinator: CoordinatorConfig) -> Iterator[tuple[FleetHttpClient, bytes]]:
    private = own_key(coordinator.key)
    interceptors: list[Any] = [
        RuntimeVersionHttpInterceptor(component_name="SuperNode"),
        NodeAuthHttpInterceptor(private, private.public_key()),
    ]
    url, context = f"https://{coordinator.address}", context_for(coordinator)
    with FleetHttpClient(url, verify=context, interceptors=interceptors) as client:
        yield client, public_key_to_bytes(private.public_key())
