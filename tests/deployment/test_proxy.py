"""A hospital's way out: through a proxy where there is one."""

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from client.service.status import ServiceFolder, read_status
from client.site.config import load_site
from sim.engines.deployment import LocalDeployment, service
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.slow


class Proxy:
    """HTTP proxy that connects as requested (RFC 9110, CONNECT), and records the targets."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        method, target, *_ = near.recv(65536).decode().split()
        assert method == "CONNECT"
        self.asked.append(target)
        host, _, port = target.rpartition(":")
        try:
            far = socket.create_connection((host, int(port)))
        except OSError:  # the coordinator is not there yet, or not any more
            near.close()
            return
        near.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        for source, sink in ((near, far), (far, near)):
            threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
        except OSError:
            pass
        sink.close()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.server.close()


def test_a_site_reaches_the_coordinator_through_a_proxy(
    made_sites: Path, tmp_path: Path, proxy: Proxy
) -> None:
    shutil.copytree(made_sites / "sites" / "alder", tmp_path / "alder")
    box = LocalDeployment(tmp_path / "box")
    path = box.join(tmp_path / "alder" / "site.yaml")
    box.sites = {}  # the site starts by itself, with a proxy
    with box.running():
        program = service("alder", "client", path)
        without = {k: v for k, v in program.environment.items() if k.lower() != "no_proxy"}
        process = subprocess.Popen(
            program.command, env=without | {"HTTPS_PROXY": proxy.url}, cwd="/"
        )
        try:
            end = time.monotonic() + PATIENCE_S
            while not (status := read_status(ServiceFolder(load_site(path)))).serving:
                assert time.monotonic() < end, status
                time.sleep(0.2)
        finally:
            process.terminate()
            process.wait(PATIENCE_S)
    assert set(proxy.asked) == {box.home.file.address}
