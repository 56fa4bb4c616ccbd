"""Foreign code submitted as a run to the coordinator's port: never installed or run.

With Flower's executor in the place of ours the same request runs that code, as the user of the
coordinator's service.
"""

import dataclasses
import hashlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from flwr.cli.build import build_fab_from_files
from flwr.cli.cli_client_interceptor import CliClientHttpInterceptor
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import ListRunsRequest, StartRunRequest
from flwr.supercore.control import ControlHttpClient
from flwr.supercore.fab import Fab
from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

from mama.exchange.fingerprint import describe
from mama.exchange.signing import write_key_pair
from mama.exchange.tensors import trained_arrays
from mama.model import build_model
from mama.system.processes import free_port
from mama.system.supervise import Supervisor, log_to
from server.federation.home import Home
from server.federation.provision import provision
from server.federation.roster import enrol
from server.run.folder import RunFolder
from server.service.control import BUNDLE, Control, bundle
from server.service.daemon import EXECUTOR, programs
from server.service.follow import follow, submit
from server.service.job import Job
from server.service.jobs import JobFile
from sim.engines.deployment import LocalDeployment
from tests.events import records
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow


def evil(marker: Path, kind: str = "serverapp") -> Fab:
    """A bundle whose code writes a file when it is imported."""
    manifest = (
        "[project]\nname = 'evil'\nversion = '1.0.0'\n[tool.flwr.app]\npublisher = 'evil'\n"
        f"[tool.flwr.app.components]\n{kind} = 'evil.server:app'\n"
    )
    if kind == "serverapp":
        manifest += "clientapp = 'evil.server:app'\n"
    return pack({"pyproject.toml": manifest, "evil/server.py": f"open({str(marker)!r}, 'w')\n"})


def pack(files: dict[str, str]) -> Fab:
    content = build_fab_from_files({name: text.encode() for name, text in files.items()})[0]
    return Fab(hashlib.sha256(content).hexdigest(), content, {})


class Outsider:
    """Somebody with a hospital's ca.crt who reaches the port, and uses nothing else."""

    def __init__(self, address: str, authority: Path):
        self._client = ControlHttpClient.from_server_address(
            address,
            False,
            str(authority),
            [CliClientHttpInterceptor(), RuntimeVersionHttpInterceptor(component_name="flwr CLI")],
        )

        wait_for(self._reaches, "the SuperLink's start")

    def _reaches(self) -> bool:
        try:
            self._client.ListRuns(ListRunsRequest())
        except httpx.TransportError:
            return False
        return True

    def status(self, run: int) -> Any:
        """How a run is, as anybody may ask."""
        return self._client.ListRuns(ListRunsRequest(run_id=run)).run_dict[run].status

    def submit(self, fab: Fab, **config: str) -> str:
        """Start a run, and wait for its end; returns how it ended."""
        request = StartRunRequest(
            fab=fab_to_proto(fab), override_config=user_config_to_proto(dict(config))
        )
        run = self._client.StartRun(request).run_id
        end = time.monotonic() + PATIENCE_S
        while True:
            status = self.status(run)
            if status.status == "finished":
                return status.sub_status
            assert time.monotonic() < end, f"run {run} does not end: {status}"
            time.sleep(0.2)


@contextmanager
def coordinator(folder: Path, *, flowers: bool) -> Iterator[tuple[Home, Outsider]]:
    """SuperLink and executor as real processes; `flowers` uses Flower's executor, undefended."""
    address = f"127.0.0.1:{free_port()}"
    path = folder / "federation.yaml"
    path.write_text(yaml.safe_dump({"name": "demo", "address": address, "listen": address}))
    home = Home(path)
    provision(home)
    for place in (home.flower_home, home.jobs):
        place.mkdir()
    started = programs(home)
    if flowers:
        folder_of_python = Path(sys.executable).parent
        command = [
            str(folder_of_python / "flower-superexec"),
            *("--runtime-api-address", address, "--root-certificates", str(home.ca_certificate)),
            *("--superexec-auth-secret-file", str(home.secret)),
        ]
        environment = dict(started[1].environment) | {"PATH": str(folder_of_python)}
        started[1] = dataclasses.replace(started[1], command=command, environment=environment)
    supervisor = Supervisor(started, log_to(home.log, f"test {folder}"))
    thread = threading.Thread(target=supervisor.run)
    thread.start()
    try:
        yield home, Outsider(address, home.ca_certificate)
    finally:
        supervisor.stopping.set()
        thread.join()


def test_with_flowers_executor_the_code_runs(tmp_path: Path) -> None:
    with coordinator(tmp_path, flowers=True) as (home, outsider):
        assert outsider.submit(evil(tmp_path / "ran")) == "failed"  # an app that is none
        assert (tmp_path / "ran").exists()
        assert list((home.flower_home / "apps").iterdir()) != []


def test_none_of_a_foreign_runs_code_is_installed_or_run(tmp_path: Path) -> None:
    marker, ours = tmp_path / "ran", bundle()
    files = {"pyproject.toml": BUNDLE.format(version="0.1.0")}
    configured = pack(
        {"pyproject.toml": files["pyproject.toml"] + "[tool.flwr.app.config]\nout = ''\n"}
    )
    with coordinator(tmp_path, flowers=False) as (home, outsider):
        before = {path for path in tmp_path.rglob("*") if "flower" not in path.parts}
        assert outsider.submit(evil(marker)) == "failed"
        # Our manifest, with code beside it that has our names.
        code = f"open({str(marker)!r}, 'w')\n"
        shadow = files | {name: code for name in ("server/app.py", "server/__init__.py")}
        assert outsider.submit(pack(shadow)) == "failed"
        # Our manifest with a configuration, and one that sends the run to a folder of the
        # outsider's.
        assert outsider.submit(configured, out=str(tmp_path / "elsewhere")) == "failed"
        # The true bundle, in a run that nobody here asked for; a configuration is refused by
        # Flower.
        assert outsider.submit(ours) == "failed"
        with pytest.raises(httpx.HTTPStatusError):
            outsider.submit(ours, out=str(tmp_path / "elsewhere"))
        assert {path for path in tmp_path.rglob("*") if "flower" not in path.parts} == before
        assert not (home.flower_home / "apps").exists()
        # A run that Flower's database has lost must not hold up the queue.
        with Control(home) as control:
            assert control.run_ended(12345)
        lines = home.log.read_text().splitlines()
    refused = [line for line in lines if f"{EXECUTOR} | ERROR refused run" in line]
    assert [line.rpartition(": ")[0].rpartition(": ")[2] for line in refused[:3]] == (
        ["its bundle is another"] * 3
    )
    assert refused[3].endswith("it is not in this coordinator's queue")
    assert len(refused) == 4
    assert not any("Traceback" in line for line in lines if f"{EXECUTOR} |" in line)


def test_the_coordinators_own_runs_go_on_beside_foreign_ones(
    small_config: Callable[..., Any], made_sites: Path, tmp_path: Path
) -> None:
    shutil.copytree(made_sites / "sites" / "birch", tmp_path / "birch")
    box = LocalDeployment(tmp_path / "box")
    box.join(tmp_path / "birch" / "site.yaml")
    experiment = small_config(
        "federation={rounds: 2, local_steps: 2}", "participation.quorum=1"
    ).experiment()
    model = build_model(experiment)
    folder = RunFolder.create(tmp_path / "run", experiment, trained_arrays(model), describe(model))
    with box.running():
        outsider = Outsider(box.home.file.address, box.home.ca_certificate)
        assert outsider.submit(evil(tmp_path / "ran")) == "failed"
        job = submit(box.home, folder.path)
        started = threading.Event()
        attack = threading.Thread(
            target=lambda: started.wait() and [outsider.submit(bundle()) for _ in range(2)]
        )
        attack.start()
        done = follow(box.home, job, lambda event: started.set())
        started.set()
        attack.join()
    assert done.state == "finished"
    assert [e["round"] for e in records(folder) if e["event"] == "round"] == [1, 2]
    assert not (tmp_path / "ran").exists()


def test_a_serverapp_ends_when_its_run_is_stopped_and_when_its_executor_dies(
    small_config: Callable[..., Any], tmp_path: Path
) -> None:
    experiment = small_config().experiment()
    model = build_model(experiment)
    folder = RunFolder.create(tmp_path / "run", experiment, trained_arrays(model), describe(model))
    with coordinator(tmp_path, flowers=False) as (home, outsider), Control(home) as control:
        write_key_pair(tmp_path / "node.key", tmp_path / "node.pub")
        enrol(home, "alder", tmp_path / "node.pub")

        def start() -> tuple[int, int]:
            """A run of the queue; its number and its process, which waits for the hospital."""
            run = control.start_run()
            job = Job(out=folder.path, asked=0, state="running", flower_run=run)
            JobFile(home, folder.path).write(job)
            found = wait_for(lambda: serverapps(home), f"the ServerApp of run {run}")
            wait_for(lambda: outsider.status(run).status == "running", "its start")
            return run, found[0]

        run, _ = start()
        control.stop_run(run)
        wait_for(lambda: not serverapps(home), "the end of the run that was stopped")
        assert control.run_ended(run)
        _, process = start()
        os.kill(parent(process), signal.SIGKILL)
        wait_for(lambda: process not in serverapps(home), "the end of the executor's ServerApp")


def serverapps(home: Home) -> list[int]:
    """Processes that do a run of this coordinator's."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            words = entry.read_bytes().split(b"\0")
            if b"server.service.serverapp" in words and str(home.path).encode() in words:
                found.append(int(entry.parent.name))
    return found


def parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
