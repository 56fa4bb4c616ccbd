"""Client of the SuperLink's Control API.

At the coordinator only this file, executor.py, serverapp.py, server/flower/ and
server/secagg/shares.py use Flower's private modules.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Self

import httpx
from cryptography.hazmat.primitives import serialization
from flwr.cli.build import build_fab_from_files
from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor
from flwr.common.constant import HEARTBEAT_PATIENCE
from flwr.common.serde import fab_to_proto
from flwr.proto.control_pb2 import (
    ListNodesRequest,
    ListRunsRequest,
    RegisterNodeRequest,
    StartRunRequest,
    StopRunRequest,
    UnregisterNodeRequest,
)
from flwr.proto.node_pb2 import NodeInfo
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.error import ApiErrorCode, FlowerError
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from mama.errors import ServiceError
from mama.exchange.signing import public_line, read_public_line
from mama.system.logs import printable
from server.federation.home import Home

# All that a bundle holds: both components are installed packages, and neither side takes anything
# from it. Without a configuration of its own, Flower refuses any that comes with a run.
BUNDLE = """\
[project]
name = "fedmama"
version = "{version}"
[tool.flwr.app]
publisher = "fedmama"
[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"
"""


def bundle() -> Fab:
    """Return this version's bundle; its hash, for a site's `policy.bundles`, is reproducible."""
    text = BUNDLE.format(version=version("fedmama"))
    content = build_fab_from_files({"pyproject.toml": text.encode()})[0]
    return Fab(hashlib.sha256(content).hexdigest(), content, {})


@dataclass(frozen=True)
class Node:
    """Node of a site according to the SuperLink; `status` is registered, online or offline.

    `heard` is the time of its last heartbeat (Unix seconds), 60 s too early for one that announced
    its end; None for one that never connected.
    """

    node: int
    name: str
    public_key: str
    status: str
    heard: float | None = None


class Control:
    """A connection to the federation's own service.

    Every method raises ServiceError when the service does not answer or refuses.
    """

    def __init__(self, home: Home):
        self.address = home.file.loopback
        self._client = ControlHttpClient.from_server_address(
            self.address,
            False,
            str(home.ca_certificate),
            [CliClientHttpInterceptor(), RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def nodes(self) -> list[Node]:
        """Return all registered nodes."""
        with self._asking():
            infos = self._client.ListNodes(ListNodesRequest()).nodes_info
        return [
            Node(info.node_id, info.name, _line(info.public_key), info.status, _heard(info))
            for info in infos
            if info.status != "unregistered"
        ]

    def register(self, site: str, public_key: str) -> None:
        """Let a site's node in."""
        with self._asking():
            self._client.RegisterNode(RegisterNodeRequest(public_key=_pem(public_key), name=site))

    def unregister(self, node: int) -> None:
        """Keep a node out; what it does is refused from now on."""
        with self._asking():
            self._client.UnregisterNode(UnregisterNodeRequest(node_id=node))

    def start_run(self) -> int:
        """Have Flower queue a ServerApp for the executor; returns Flower's id of the run."""
        request = StartRunRequest(fab=fab_to_proto(bundle()))
        with self._asking():
            run = self._client.StartRun(request).run_id
        if not run:
            raise ServiceError("starts no run", where=self.address, fix="Read federation.log")
        return run

    def run_ended(self, run: int) -> bool:
        """Return whether a run's ServerApp has ended, or is unknown to the service."""
        with self._asking():
            try:
                runs = self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict
            except httpx.HTTPStatusError as error:
                # Flower's database was lost, or put back from a backup.
                found = FlowerError.from_json(error.response.text)
                if found and found.code == ApiErrorCode.RUN_ID_NOT_FOUND:
                    return True
                raise
        return run not in runs or runs[run].status.status == "finished"

    def stop_run(self, run: int) -> None:
        """End a run's ServerApp."""
        with self._asking():
            self._client.StopRun(StopRunRequest(run_id=run))

    @contextmanager
    def _asking(self) -> Iterator[None]:
        try:
            yield
        except httpx.HTTPStatusError as error:
            found = FlowerError.from_json(error.response.text)
            what = printable(found.message) if found else f"HTTP {error.response.status_code}"
            raise ServiceError(f"refused: {what}", where=self.address) from None
        except httpx.HTTPError as error:
            raise ServiceError(
                f"does not answer ({type(error).__name__})",
                where=self.address,
                fix="Start it with `mama-server start`",
            ) from None


def _heard(info: NodeInfo) -> float | None:
    """Return the time of a node's last heartbeat.

    Flower keeps the end of its online time instead: HEARTBEAT_PATIENCE intervals later.
    """
    if not info.online_until:
        return None
    return float(info.online_until - HEARTBEAT_PATIENCE * info.heartbeat_interval)


def _pem(line: str) -> bytes:
    return read_public_line(line).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def _line(pem: bytes) -> str:
    key = serialization.load_pem_public_key(pem)
    return public_line(key)  # type: ignore[arg-type]
