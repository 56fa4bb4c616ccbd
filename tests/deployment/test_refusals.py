"""Foreign keys, certificates and code are refused, with the reason."""

import hashlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from flwr.cli.build import build_fab_from_files
from flwr.common.serde import fab_to_proto, user_config_to_proto
from flwr.proto.control_pb2 import StartRunRequest
from flwr.supercore.fab import Fab

from client.cli import main
from client.identity.enrolment import init_site
from client.service.status import ServiceFolder, Status, read_status
from client.site.config import load_site
from mama.exchange.signing import fingerprint
from mama.system.processes import free_port
from server import cli as coordinator
from server.federation.certificates import make_authority, read_certificate
from server.federation.roster import enrol, revoke
from server.run.folder import RunFolder
from server.service.control import Control
from server.service.daemon import programs
from sim.engines.deployment import service
from tests.certificates import make_server_certificate
from tests.events import records
from tests.waiting import PATIENCE_S, wait_for

pytestmark = pytest.mark.slow


@contextmanager
def site_running(path: Path) -> Iterator[Callable[[Callable[[Status], bool]], Status]]:
    """A site's service; yields a function that waits for a status."""

    def wait(condition: Callable[[Status], bool]) -> Status:
        end = time.monotonic() + PATIENCE_S
        while True:
            status = read_status(ServiceFolder(load_site(path)))
            if condition(status):
                return status
            assert time.monotonic() < end, status
            time.sleep(0.2)

    program = service("site", "client", path)
    process = subprocess.Popen(program.command, env=dict(program.environment), cwd="/")
    try:
        yield wait
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


@pytest.fixture
def new_site(made_sites: Path, tmp_path: Path) -> Callable[..., Path]:
    """A fourth hospital, not enrolled, with a dataset; returns its site file."""

    def make(address: str, authority: Path) -> Path:
        folder = tmp_path / "dogwood"
        init_site(folder, "dogwood", tmp_path, address, authority)
        shutil.copytree(made_sites / "sites" / "alder" / "dataset", folder / "dataset")
        shutil.copy(made_sites / "sites" / "alder" / "secret.key", folder / "secret.key")
        return folder / "site.yaml"

    return make


def test_only_an_enrolled_key_comes_in_and_a_revoked_one_goes(
    federation: Any, new_site: Callable[..., Path], command: Callable[..., Any]
) -> None:
    home = federation.box.home
    path = new_site(home.file.address, home.ca_certificate)
    with site_running(path) as wait:
        refused = wait(lambda status: "not enrolled, or revoked" in status.reason)
        assert not refused.serving
        ended = command(main, "status", path, "--json")
        assert ended.code == 12
        assert json.loads(ended.out)["serving"] is False

        enrol(home, "dogwood", path.parent / "node.pub")
        assert wait(lambda status: status.serving).registered
        assert command(main, "status", path).out == "dogwood: waiting for tasks\n"

        revoke(home, "dogwood")
        wait(lambda status: "not enrolled, or revoked" in status.reason)
    assert (
        "the service does not run (the coordinator does not admit"
        in command(main, "status", path).out
    )


def test_a_site_whose_disk_is_full_says_so_and_comes_back(federation: Any, tmp_path: Path) -> None:
    federation.wait_until_serving()
    small = tmp_path / "small"
    small.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    path = federation.box.sites["cedar"]
    before = path.read_text()
    path.write_text(yaml.safe_dump(yaml.safe_load(before) | {"state": str(small)}))
    try:
        metrics = federation.start(
            "federation={rounds: 1, local_steps: 2}", "participation.quorum=2"
        ).finish()
        assert ("cedar", "disk_full") in {(p["site"], p["code"]) for p in metrics["problems"]}
        subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
        metrics = federation.start(
            "federation={rounds: 1, local_steps: 2}", "participation.quorum=3"
        ).finish()
        assert metrics["problems"] == []
    finally:
        path.write_text(before)
        subprocess.run(["umount", str(small)], check=True)


@contextmanager
def impostor(certificate: Path, key: Path) -> Iterator[str]:
    """A TLS server with a certificate of its own; yields its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with socket.create_server(("127.0.0.1", free_port())) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{server.getsockname()[1]}"
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("signed_by", "days", "reason"),
    [("ours", -0.01, "certificate has expired"), ("another", 10, "certificate verify failed")],
)
def test_a_coordinator_whose_certificate_is_not_good_gets_nothing(
    new_site: Callable[..., Path], tmp_path: Path, signed_by: str, days: float, reason: str
) -> None:
    for name in ("ours", "another"):
        make_authority(name, tmp_path / f"{name}.crt", tmp_path / f"{name}.key")
    authority = tmp_path / f"{signed_by}.crt"
    server = tmp_path / "server.crt", tmp_path / "server.key"
    make_server_certificate(["127.0.0.1"], days, authority, authority.with_suffix(".key"), *server)
    with impostor(*server) as address:
        path = new_site(address, tmp_path / "ours.crt")
        with site_running(path) as wait:
            status = wait(lambda status: reason in status.reason)
    assert not status.serving
    assert not status.registered


def test_a_site_with_another_pin_does_not_even_start(
    new_site: Callable[..., Path], tmp_path: Path, command: Callable[..., Any]
) -> None:
    make_authority("demo", tmp_path / "ca.crt", tmp_path / "ca.key")
    path = new_site("127.0.0.1:1", tmp_path / "ca.crt")
    settings = yaml.safe_load(path.read_text())
    settings["coordinator"]["pin"] = "0" * 64
    path.write_text(yaml.safe_dump(settings))
    ended = command(main, "start", path)
    assert ended.code == 2
    assert "is not the pinned authority" in ended.err
    found = fingerprint(read_certificate(tmp_path / "ca.crt").public_key())  # type: ignore[arg-type]
    assert found in ended.err


FOREIGN = {
    "pyproject.toml": """\
[project]
name = "foreign"
version = "1.0.0"
[tool.flwr.app]
publisher = "foreign"
[tool.flwr.app.components]
serverapp = "foreign_server:app"
clientapp = "client.app:app"
[tool.flwr.app.config]
result = ""
""",
    # Named like ours, in case that a site should look into the bundle first.
    "client/__init__.py": "open({marker!r}, 'w').close()\n",
    "client/app.py": "from flwr.clientapp import ClientApp\napp = ClientApp()\n",
    "foreign_server.py": """\
import json, time
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.serverapp import ServerApp
app = ServerApp()

@app.main()
def main(grid, context):
    waiting = {}
    for node in grid.get_nodes():
        content = RecordDict({"header": ConfigRecord({"json": "run my code"})})
        (name,) = grid.push_messages([Message(content, node.node_id, "train", group_id="1")])
        waiting[name] = node.node_id
    answers = {}
    while waiting:
        for reply in grid.pull_messages(list(waiting)):
            node = waiting.pop(reply.metadata.reply_to_message_id)
            if reply.has_error():
                answers[node] = f"error {reply.error.code}: {reply.error.reason}"
            else:
                answers[node] = reply.content.config_records["header"]["json"]
        time.sleep(0.2)
    with open(context.run_config["result"], "w") as file:
        json.dump(answers, file)
""",
}


@contextmanager
def flowers_own_executor(federation: Any) -> Iterator[None]:
    """Flower's executor instead of ours, which would refuse a foreign run before any site."""
    home, ours = federation.box.home, federation.box.processes()["executor"]
    executor = programs(home)[1]
    folder = Path(sys.executable).parent
    command = [
        str(folder / "flower-superexec"),
        *("--runtime-api-address", home.file.loopback),
        *("--root-certificates", str(home.ca_certificate)),
        *("--superexec-auth-secret-file", str(home.secret)),
    ]
    environment = dict(executor.environment) | {"PATH": f"{folder}{os.pathsep}/usr/bin:/bin"}
    os.kill(ours, signal.SIGSTOP)
    process = subprocess.Popen(command, env=environment, cwd=home.flower_home)
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
        os.kill(ours, signal.SIGCONT)


def test_foreign_code_is_not_run_at_any_site(federation: Any, tmp_path: Path) -> None:
    federation.wait_until_serving()
    marker, result = tmp_path / "marker", tmp_path / "result.json"
    files = {
        name: text.replace("{marker!r}", repr(str(marker))).encode()
        for name, text in FOREIGN.items()
    }
    content = build_fab_from_files(files)[0]
    bundle = Fab(hashlib.sha256(content).hexdigest(), content, {})
    with flowers_own_executor(federation), Control(federation.box.home) as control:
        request = StartRunRequest(
            fab=fab_to_proto(bundle), override_config=user_config_to_proto({"result": str(result)})
        )
        run = control._client.StartRun(request).run_id
        wait_for(lambda: control.run_ended(run), "the run's end")
        names = {str(node.node): node.name for node in control.nodes()}
    answers = {names[node]: text for node, text in json.loads(result.read_text()).items()}
    assert not marker.exists()
    # alder allows the true bundle only; to the others the bundle is as good as none, and its
    # message is nonsense.
    assert answers["alder"] == "error 7: this site does not allow the run's bundle"
    for name in ("birch", "cedar"):
        answer = json.loads(answers[name])
        assert (answer["site"], answer["status"]) == (name, "bad_request")


def test_a_site_that_wants_a_persons_approval_waits_for_it(
    federation: Any, command: Callable[..., Any]
) -> None:
    federation.wait_until_serving()
    path = federation.box.sites["cedar"]
    before = path.read_text()
    settings = yaml.safe_load(before)
    path.write_text(yaml.safe_dump(settings | {"policy": settings["policy"] | {"approval": True}}))
    try:
        metrics = federation.start("federation.rounds=1").finish()
        assert metrics["sites"] == ["alder", "birch"]
        (problem,) = metrics["problems"]
        assert (problem["site"], problem["code"]) == ("cedar", "not_approved")
        digest = metrics["experiment_hash"]
        assert digest in command(main, "approve", path).out
        assert command(main, "approve", path, digest).code == 0
        metrics = federation.start("federation.rounds=1").finish()
        assert metrics["sites"] == ["alder", "birch", "cedar"]
    finally:
        path.write_text(before)
        # Without the rule the policy is weaker again.
        assert command(main, "policy", path, "--accept").code == 0


def test_a_rehearsal_asks_every_site_and_trains_nowhere(
    federation: Any, command: Callable[..., Any], small_config: Callable[..., Any], tmp_path: Path
) -> None:
    federation.wait_until_serving()
    experiment = tmp_path / "experiment.yaml"
    experiment.write_text(yaml.safe_dump(small_config().experiment().model_dump(mode="json")))
    out, home = tmp_path / "run", federation.box.home.path
    ended = command(
        coordinator.main, "rehearse", experiment, "--out", out, "--federation", home, "--json"
    )
    assert (ended.code, ended.err) == (0, "")
    figures = json.loads(ended.out)
    assert sorted(figures["sites"]) == ["alder", "birch", "cedar"]
    assert figures["problems"] == {}
    for one in figures["sites"].values():
        assert one["bytes_up"] > 100_000
        assert 0 < one["site_seconds"] <= one["seconds"]
    assert records(RunFolder(out)) == []
