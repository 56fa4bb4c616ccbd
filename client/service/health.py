"""The site's gRPC health service (grpc.health.v1), for grpc_health_probe and Kubernetes.

SERVING means that the coordinator admitted the node, that its last contact succeeded, that the
dataset is loaded, and that an expected GPU can be used; `mama-site status --json` gives the reason
if not. Flower's own health service always reports SERVING.
"""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from client.service.status import ServiceFolder, read_status
from mama.errors import ServiceError

LOOK_S = 2.0


@contextmanager
def serve_health(folder: ServiceFolder) -> Iterator[None]:
    """Serve health within the block at the site file's address, or do nothing if it has none.

    Raises:
        ServiceError: the address is taken.
    """
    address = folder.coordinator.health
    if address is None:
        yield
        return
    servicer = health.HealthServicer()
    # Otherwise a second site could bind the same port, and a probe would reach either.
    server = grpc.server(ThreadPoolExecutor(max_workers=2), options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    try:
        bound = server.add_insecure_port(address)
    except RuntimeError:
        bound = 0
    if not bound:
        raise ServiceError(
            "cannot listen",
            where=f"coordinator.health {address}",
            fix="Give a free port of this machine",
        )
    stopping = threading.Event()

    def look() -> None:
        while True:
            kind = health_pb2.HealthCheckResponse
            serving = read_status(folder).serving
            servicer.set("", kind.SERVING if serving else kind.NOT_SERVING)
            if stopping.wait(LOOK_S):
                return

    looker = threading.Thread(target=look)
    looker.start()
    server.start()
    try:
        yield
    finally:
        stopping.set()
        looker.join()
        server.stop(grace=1).wait()
