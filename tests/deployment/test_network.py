"""Where a federation's processes connect: to each other, through a proxy where there is one, and nowhere else."""

import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.service import ServiceFolder, read_status
from client.sitefile import load_site
from sim.deployment import Box, service

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


class Proxy:
    """An HTTP proxy that connects to where it is asked (RFC 9110, CONNECT), and remembers where that was."""

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
    box = Box(tmp_path / "box")
    path = box.join(tmp_path / "alder" / "site.yaml")
    box.sites = {}  # the site starts by itself, with a proxy
    with box.running():
        program = service("alder", "client", path)
        without = {k: v for k, v in program.environment.items() if k.lower() != "no_proxy"}
        process = subprocess.Popen(
            program.command, env=without | {"HTTPS_PROXY": proxy.url}, cwd="/"
        )
        try:
            end = time.monotonic() + 120
            while not (status := read_status(ServiceFolder(load_site(path)))).serving:
                assert time.monotonic() < end, status
                time.sleep(0.2)
        finally:
            process.terminate()
            process.wait(30)
    assert set(proxy.asked) == {box.home.file.address}


# The federation in a box; beside it every open connection of this network is written down, ten times a second. The
# route leads everywhere and nowhere, so that an attempt to reach the outside hangs and is seen: first one of ours.
WATCHED = """
import json, socket, subprocess, sys, threading, time
from pathlib import Path
from mama.config import Experiment
from mama.configfile import load
from sim.run import federate

for words in ("link set lo up", "route add default dev lo src 127.0.0.1"):
    subprocess.run(["ip", *words.split()], check=True)
seen, done = set(), threading.Event()

def watch():
    while not done.wait(0.1):
        for name in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                seen.add(line.split()[2].rpartition(":")[0])

experiment, out, *files = map(Path, sys.argv[1:])
watcher = threading.Thread(target=watch)
watcher.start()
try:
    try:
        socket.create_connection(("192.0.2.1", 443), timeout=1)
    except OSError:
        pass
    control = sorted(seen)
    seen.clear()
    metrics = federate(load(Experiment, experiment), files, out, engine="deployment")
finally:
    done.set()
    watcher.join()
print(json.dumps({"control": control, "seen": sorted(seen), "status": metrics["status"]}))
"""
TEST_NET = "010200C0"  # 192.0.2.1
LOOPBACK = {"0100007F", "00000000", "0" * 32, "00000000000000000000000001000000"}
LOOPBACK |= {"0000000000000000FFFF00000100007F"}


def can_unshare() -> bool:
    there = shutil.which("unshare") and shutil.which("ip")
    return bool(there) and not subprocess.run(["unshare", "-n", "true"]).returncode


@pytest.mark.skipif(not can_unshare(), reason="needs the right to make a network namespace")
def test_nothing_phones_home(
    small_config: Callable[..., Any], site_files: Callable[[], list[Path]], tmp_path: Path
) -> None:
    (tmp_path / "experiment.yaml").write_text(
        yaml.safe_dump(small_config("federation.rounds=1").experiment().model_dump(mode="json"))
    )
    files = [str(path) for path in site_files()]
    command = [sys.executable, "-c", WATCHED, str(tmp_path / "experiment.yaml")]
    ended = subprocess.run(
        ["unshare", "-n", *command, str(tmp_path / "out"), *files],
        cwd=Path(__file__).parents[2],
        env=os.environ,
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout.splitlines()[-1])
    assert result["status"] == "finished"
    assert TEST_NET in result["control"]
    assert "0100007F" in result["seen"]
    assert set(result["seen"]) <= LOOPBACK
