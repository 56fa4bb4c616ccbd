"""Defects at a site, each named with its remedy, and no complaint about the rest."""

import json
import os
import shutil
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.cli import main
from client.errors import RefusedError
from client.identity.enrolment import own_key
from client.identity.roster import take_roster
from client.preflight import machine
from client.preflight.check import Check, guarded
from client.preflight.coordinator import _enrolled, check_coordinator
from client.preflight.data import check_data
from client.preflight.experiment import check_experiment
from client.preflight.machine import check_machine
from client.service.status import ServiceFolder
from client.site.config import load_site
from client.site.dataset import dataset_of
from mama.data.adapters import find
from mama.data.manifest import Dataset, write_manifest
from mama.data.studies import Study
from mama.exchange.roster import Member, Roster
from mama.exchange.signing import fingerprint, public_line, write_key_pair
from mama.system.sealed import write_sealed
from server.federation.certificates import make_authority, read_certificate
from sim.engines.deployment import free_port
from tests.certificates import make_server_certificate
from tests.client.authority import Authority


def by_name(checks: Iterator[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def site_file(site_files: Callable[[], list[Path]]) -> Path:
    return site_files()[0]


def change(path: Path, **settings: Any) -> None:
    before = yaml.safe_load(path.read_text())
    if "policy" in settings:
        settings["policy"] = before["policy"] | settings["policy"]
    path.write_text(yaml.safe_dump(before | settings))


def test_a_machine_that_will_do(site_file: Path) -> None:
    change(site_file, device="cpu")
    found = by_name(check_machine(load_site(site_file)))
    assert found["device"].verdict == found["rights"].verdict == "PASS"
    assert found.keys() == {"code", "device", "disk", "rights", "shared memory"}


@pytest.mark.parametrize(("free", "verdict"), [(0.5e9, "FAIL"), (5e9, "WARN"), (100e9, "PASS")])
def test_disk(site_file: Path, monkeypatch: pytest.MonkeyPatch, free: float, verdict: str) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(
        machine.shutil, "disk_usage", lambda place: type(usage)(int(1e12), 0, int(free))
    )
    found = by_name(check_machine(load_site(site_file)))["disk"]
    assert found.verdict == verdict
    assert bool(found.remedy) == (verdict != "PASS")


def test_a_device_that_is_not_there(site_file: Path) -> None:
    change(site_file, device="cuda:7")
    assert by_name(check_machine(load_site(site_file)))["device"].verdict == "FAIL"


def test_a_key_that_others_may_read(site_file: Path) -> None:
    folder = site_file.parent
    write_key_pair(folder / "node.key", folder / "node.pub")
    change(site_file, coordinator={"address": "a:1", "pin": "0" * 64})
    assert by_name(check_machine(load_site(site_file)))["rights"].verdict == "PASS"
    (folder / "node.key").rename(folder / "away")
    found = by_name(check_machine(load_site(site_file)))["rights"]
    assert (found.verdict, found.found) == ("FAIL", f"{folder / 'node.key'} does not exist")
    (folder / "away").rename(folder / "node.key")
    (folder / "node.key").chmod(0o644)
    found = by_name(check_machine(load_site(site_file)))["rights"]
    assert (found.verdict, found.remedy) == ("FAIL", f"Run `chmod 600 {folder / 'node.key'}`")


def test_data_that_will_do(site_file: Path) -> None:
    found = by_name(check_data(load_site(site_file)))
    assert {check.verdict for check in found.values()} == {"PASS"}
    assert found["studies"].found == "8 training studies, 8 test studies"


def test_those_who_withdrew(site_file: Path) -> None:
    site = load_site(site_file)
    patient = find(site.data.adapter)(site.data.source).studies[0].patient
    listed = site_file.parent / "withdrawn.txt"
    data = yaml.safe_load(site_file.read_text())["data"]
    change(site_file, data=data | {"withdrawn": "withdrawn.txt"})
    (found,) = guarded("dataset", check_data(load_site(site_file)))
    assert found.verdict == "FAIL"
    assert "the list of withdrawn patients cannot be read" in str(found)
    whole = len(Dataset(site.data.dataset).manifest.studies)
    for text, verdict in ((f"# none\n{patient}\n", "PASS"), (f"{patient}\nnobody\n", "WARN")):
        listed.write_text(text)
        checks = by_name(check_data(load_site(site_file)))
        assert checks["withdrawn"].verdict == verdict
        left = whole - len(dataset_of(load_site(site_file)).manifest.studies)
        assert left >= 1
        assert f"{left} studies excluded" in checks["withdrawn"].found
    assert "1 lines match nobody: 2" in checks["withdrawn"].found
    assert "nobody\n" not in str(checks["withdrawn"])


def test_no_dataset(site_file: Path) -> None:
    shutil.rmtree(site_file.parent / "dataset")
    (found,) = guarded("dataset", check_data(load_site(site_file)))
    assert found.verdict == "FAIL"
    assert "no such folder" in found.found
    assert "mama-site ingest" in found.remedy


def test_a_damaged_image(site_file: Path) -> None:
    for path in (site_file.parent / "dataset" / "images").iterdir():
        path.write_bytes(path.read_bytes()[:50])
    *_, found = guarded("dataset", check_data(load_site(site_file)))
    assert found.verdict == "FAIL"
    assert "cached image is missing or damaged" in found.found


@pytest.mark.parametrize(
    ("study", "name", "verdict"),
    [
        ({"sentences": ()}, "reports", "FAIL"),
        ({"labels": {"density": None, "suspicious": None}}, "labels", "WARN"),
        ({"split": "test"}, "studies", "FAIL"),
    ],
)
def test_a_dataset_that_lacks_something(
    site_file: Path, study: dict[str, Any], name: str, verdict: str
) -> None:
    folder = site_file.parent / "dataset"
    manifest = Dataset(folder).manifest
    changed = [Study.model_validate(s.model_dump() | study) for s in manifest.studies]
    write_manifest(folder, manifest.model_copy(update={"studies": changed}))
    assert by_name(check_data(load_site(site_file)))[name].verdict == verdict


def test_a_source_that_changed(site_file: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    settings = yaml.safe_load(site_file.read_text())
    change(site_file, data=settings["data"] | {"source": str(source)})
    later = time.time() + 100
    os.utime(source, (later, later))
    found = by_name(check_data(load_site(site_file)))["source"]
    assert (found.verdict, found.remedy) == ("WARN", "Run `mama-site ingest`")
    source.rmdir()
    assert by_name(check_data(load_site(site_file)))["source"].verdict == "WARN"


class FakeCoordinator:
    """TLS server in place of a coordinator; `seconds` is how far its clock is ahead."""

    def __init__(self, folder: Path, *, days: float = 100, seconds: float = 0, code: int = 412):
        make_authority("demo", folder / "ca.crt", folder / "ca.key")
        certificate = folder / "server.crt", folder / "server.key"
        make_server_certificate(
            ["127.0.0.1"], days, folder / "ca.crt", folder / "ca.key", *certificate
        )

        class Handler(BaseHTTPRequestHandler):
            def date_time_string(self, timestamp: float | None = None) -> str:
                return formatdate(time.time() + seconds, usegmt=True)

            def do_GET(self) -> None:
                self.send_response(code if code == 400 else 200)
                self.end_headers()

            def do_POST(self) -> None:
                self.send_response(code)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.certificate = folder / "ca.crt"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def coordinator(tmp_path: Path) -> Iterator[Callable[..., FakeCoordinator]]:
    made: list[FakeCoordinator] = []

    def make(**options: Any) -> FakeCoordinator:
        folder = tmp_path / f"coordinator{len(made)}"
        folder.mkdir()
        made.append(FakeCoordinator(folder, **options))
        return made[-1]

    yield make
    for each in made:
        each.server.shutdown()
        each.server.server_close()


@pytest.fixture
def look(site_file: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Check]]:
    """The coordinator's checks of a site that works for it."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)

    def at(address: str, certificate: Path, pin: str | None = None) -> dict[str, Check]:
        folder = site_file.parent
        if not (folder / "node.key").exists():
            write_key_pair(folder / "node.key", folder / "node.pub")
        key = read_certificate(certificate).public_key()
        change(
            site_file,
            coordinator={
                "address": address,
                "certificate": str(certificate),
                "pin": pin or fingerprint(key),  # type: ignore[arg-type]
            },
        )
        return by_name(guarded("coordinator", check_coordinator(load_site(site_file))))

    return at


def test_a_coordinator_that_answers_but_does_not_know_the_key(
    coordinator: Callable[..., FakeCoordinator], look: Callable[..., dict[str, Check]]
) -> None:
    there = coordinator()
    found = look(there.address, there.certificate)
    assert found["connection"].verdict == found["expiry"].verdict == "PASS"
    assert found["clock"].verdict == "PASS"
    assert found["enrolment"].verdict == "FAIL"
    assert "mama-server enrol" in found["enrolment"].remedy
    assert "mama-site new-key" in found["enrolment"].remedy


@pytest.mark.parametrize(("code", "message"), [(401, "clock by NTP"), (502, "HTTP 502")])
def test_a_good_key_is_not_blamed_for_a_clock_or_a_coordinator_that_is_down(
    coordinator: Callable[..., FakeCoordinator],
    look: Callable[..., dict[str, Check]],
    code: int,
    message: str,
) -> None:
    there = coordinator(code=code)
    found = look(there.address, there.certificate)["enrolment"]
    assert found.verdict == "FAIL"
    assert message in found.found
    assert "new-key" not in found.remedy


@pytest.mark.parametrize("contact", [None, "HTTP 400"])
def test_a_door_that_wants_a_certificate_of_the_site(
    coordinator: Callable[..., FakeCoordinator],
    look: Callable[..., dict[str, Check]],
    site_file: Path,
    contact: str | None,
) -> None:
    """As nginx with mutual TLS; status 400 is no contact, with or without the service."""
    folder = ServiceFolder(load_site(site_file))
    folder.make()
    if contact:
        node = {"process": os.getpid(), "registered": True, "success": time.time() - 9}
        write_sealed(folder.node, node | {"reason": contact})
    there = coordinator(code=400)
    found = look(there.address, there.certificate)
    assert found["connection"].verdict == found["enrolment"].verdict == "FAIL"
    assert "coordinator.client_certificate" in found["connection"].remedy
    assert "HTTP 400" in found["enrolment"].found


def test_a_key_that_the_roster_knows_by_another_name(tmp_path: Path, federation: Authority) -> None:
    site = federation.site(tmp_path / "site")
    assert site.coordinator is not None
    line = public_line(own_key(site.coordinator.key).public_key())
    members = (Member(site="birch", public_key=line),)
    with pytest.raises(RefusedError):
        take_roster(site, federation.seal(Roster(federation="demo", version=1, members=members)))
    found = _enrolled(ServiceFolder(site))
    assert (found.verdict, found.found) == ("FAIL", "this key is enrolled as birch")


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        (86400, "FAIL"),
        (-86400, "FAIL"),
        (20, "WARN"),
        (250, "WARN"),
        (320, "FAIL"),
        (-20, "FAIL"),
        (0, "PASS"),
    ],
)
def test_clocks(
    coordinator: Callable[..., FakeCoordinator],
    look: Callable[..., dict[str, Check]],
    seconds: float,
    verdict: str,
) -> None:
    there = coordinator(seconds=seconds)
    found = look(there.address, there.certificate)["clock"]
    assert found.verdict == verdict
    if seconds:
        assert ("behind" if seconds > 0 else "ahead of") in found.found


def test_certificates(
    coordinator: Callable[..., FakeCoordinator], look: Callable[..., dict[str, Check]]
) -> None:
    expired, soon, other = coordinator(days=-0.01), coordinator(days=10), coordinator()
    found = look(expired.address, expired.certificate)["connection"]
    assert found.verdict == "FAIL"
    assert "mama-server renew" in found.remedy
    assert look(soon.address, soon.certificate)["expiry"].verdict == "WARN"
    found = look(soon.address, other.certificate)["connection"]
    assert found.verdict == "FAIL"
    assert "does not belong to ca.crt" in found.remedy
    found = look(soon.address.replace("127.0.0.1", "localhost"), soon.certificate)["connection"]
    assert "for another host name" in found.remedy
    found = look(soon.address, soon.certificate, pin="0" * 64)["coordinator"]
    assert "is not the pinned authority" in found.found


def test_nobody_there(
    coordinator: Callable[..., FakeCoordinator], look: Callable[..., dict[str, Check]]
) -> None:
    certificate = coordinator().certificate
    found = look(f"127.0.0.1:{free_port()}", certificate)["connection"]
    assert found.verdict == "FAIL"
    assert "Nothing listens there" in found.remedy


def test_a_proxys_password_is_not_shown(
    coordinator: Callable[..., FakeCoordinator],
    look: Callable[..., dict[str, Check]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    there = coordinator()
    monkeypatch.setenv("HTTPS_PROXY", f"http://alice:secret@127.0.0.1:{free_port()}")
    found = look(there.address, there.certificate)
    assert found["proxy"].found.startswith("via 127.0.0.1:")
    assert "secret" not in json.dumps([str(check) for check in found.values()])
    assert found["connection"].verdict == "FAIL"


def test_an_experiment_is_tried(site_file: Path, small_config: Callable[..., Any]) -> None:
    change(site_file, threads=1, policy={"min_cohort": 3})
    found = by_name(check_experiment(load_site(site_file), small_config().experiment()))
    assert found["policy min_cohort"].verdict == "FAIL"
    assert found["base models"].verdict == found["one step"].verdict == "PASS"


def test_an_experiment_larger_than_the_cache(
    site_file: Path, small_config: Callable[..., Any]
) -> None:
    larger = small_config("image.size=[192, 128]").experiment()
    *_, found = guarded("experiment", check_experiment(load_site(site_file), larger))
    assert found.verdict == "FAIL"
    assert "--long-side 192" in found.remedy


def test_the_command_prints_a_line_a_check_and_fails(
    site_file: Path, command: Callable[..., Any]
) -> None:
    ended = command(main, "check", site_file)
    assert ended.code == 1
    assert "PASS  studies: 8 training studies" in ended.out
    assert "FAIL  coordinator: site alder: key 'coordinator' is missing. Add it" in ended.out
