"""Status of a site: serving only when it is admitted, in contact and has data."""

import json
import os
import socket
import time
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from grpc_health.v1 import health_pb2, health_pb2_grpc

from client.identity.enrolment import init_site
from client.service import daemon
from client.service.health import serve_health
from client.service.outcomes import LASTING, Outcomes
from client.service.status import FRESH_S, Record, ServiceFolder, format_status, read_status
from client.site.config import load_site
from mama.errors import ConfigError, ServiceError
from mama.system.processes import free_port
from mama.system.sealed import read_if_whole, write_sealed
from server.federation.certificates import make_authority
from tests.waiting import wait_until

FILE = "site: north\ndata: {source: archive, dataset: dataset}\nstate: state\nsecret: secret.key\n"
COORDINATOR = "coordinator: {address: 'a:1', pin: 'PIN', health: '127.0.0.1:PORT'}\n"


@pytest.fixture
def folder(tmp_path: Path) -> ServiceFolder:
    path = tmp_path / "site.yaml"
    path.write_text(FILE + COORDINATOR.replace("PIN", "0" * 64).replace("PORT", str(free_port())))
    made = ServiceFolder(load_site(path))
    made.make()
    return made


def record(folder: ServiceFolder, **changed: Any) -> None:
    """Node and guard at work, but for what is changed."""
    now = time.time()
    node = {"process": os.getpid(), "registered": True, "success": now, "reason": None}
    guard = {"process": os.getpid(), "dataset": True, "working_on": None}
    for name, value in changed.items():
        part, _, key = name.partition("_")
        {"node": node, "guard": guard}[part][key] = value
    write_sealed(folder.node, node)
    write_sealed(folder.guard, guard)


def test_at_work(folder: ServiceFolder) -> None:
    record(folder, guard_working_on="train of round 3")
    status = read_status(folder)
    assert (status.serving, status.reason) == (True, "")
    assert format_status(status, None, 0, as_json=False) == "north: train of round 3"
    assert (
        json.loads(format_status(status, None, 0, as_json=True))["working_on"] == "train of round 3"
    )


def test_what_waits_for_a_person_is_shown(folder: ServiceFolder) -> None:
    record(folder)
    status = read_status(folder)
    assert format_status(status, None, 2, as_json=False).splitlines()[1] == (
        "experiments that wait for approval: 2 (`mama-site approve`)"
    )
    assert json.loads(format_status(status, None, 2, as_json=True))["waiting_for_approval"] == 2


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"node_process": 2**22 + 1}, "the service does not run; start it"),
        (
            {"node_registered": False, "node_reason": "HTTP 401"},
            "not connected: HTTP 401; `mama-site check`",
        ),
        ({"node_success": time.time() - 3 * 86400, "node_reason": "ssl"}, "no contact: ssl"),
        ({"node_success": time.time() - FRESH_S - 5}, "no contact: it is silent"),
        ({"node_reason": "ConnectError"}, "no contact: ConnectError"),
        ({"guard_process": 2**22 + 1}, "the guard does not run"),
        ({"guard_dataset": False, "guard_reason": "gone"}, "dataset: gone"),
        ({"guard_gpu_reason": "CUDA is gone"}, "GPU: CUDA is gone"),
    ],
)
def test_not_serving_and_why(folder: ServiceFolder, changed: dict, reason: str) -> None:
    record(folder, **changed)
    status = read_status(folder)
    assert not status.serving
    assert reason in status.reason


def test_a_gpu_in_the_status_is_there_gone_or_not_expected(folder: ServiceFolder) -> None:
    def printed() -> dict[str, Any]:
        return json.loads(format_status(read_status(folder), None, 0, as_json=True))

    record(folder)
    assert (printed()["gpu"], printed()["serving"]) == (None, True)
    record(folder, guard_gpu_expected=True, guard_gpu_reason=None)
    assert (printed()["gpu"], printed()["serving"]) == (True, True)
    record(folder, guard_gpu_expected=True, guard_gpu_reason="CUDA is gone. Restart")
    assert (printed()["gpu"], printed()["serving"]) == (False, False)
    assert printed()["reason"] == "GPU: CUDA is gone. Restart"


def test_a_node_that_ended_just_now_tells_why(folder: ServiceFolder) -> None:
    record(folder, node_process=2**22 + 1, node_attempt=time.time(), node_reason="HTTP 401")
    assert "the service does not run (HTTP 401)" in read_status(folder).reason
    write_sealed(folder.processes, {"process": os.getpid()})
    assert "the node ended (HTTP 401); `mama-site check`" in read_status(folder).reason


def test_a_guard_that_has_not_loaded_its_code_is_starting(folder: ServiceFolder) -> None:
    record(folder, guard_process=2**22 + 1)
    write_sealed(folder.processes, {"guard": os.getpid()})
    assert read_status(folder).reason == "the guard is starting"


def test_a_node_that_has_not_written_a_line_is_starting(folder: ServiceFolder) -> None:
    record(folder, node_process=2**22 + 1)
    write_sealed(folder.processes, {"process": os.getpid(), "node": os.getpid()})
    assert read_status(folder).reason == "the node is starting"


def outcomes(*ends: tuple[str, str]) -> dict[str, Any]:
    found = Outcomes()
    for number, (kind, code) in enumerate(ends, start=1):
        found = found.ended(kind, str(number), code)
    return found.model_dump()["last"]


@pytest.mark.parametrize("code", sorted(LASTING))
def test_a_task_that_failed_of_what_lasts_is_not_serving_until_one_of_its_kind_is_done(
    folder: ServiceFolder, code: str
) -> None:
    record(folder, guard_outcomes=outcomes(("train", code), ("evaluate", "ok")))
    status = read_status(folder)
    assert not status.serving
    assert f"the last train task failed: {code}: " in status.reason
    record(folder, guard_outcomes=outcomes(("train", code), ("train", "ok")))
    assert read_status(folder).serving


def test_failures_in_a_row_are_warned_of_and_the_last_task_is_shown(folder: ServiceFolder) -> None:
    record(folder, guard_outcomes=outcomes(("train", "policy_hours"), ("query", "ok")))
    status = read_status(folder)
    assert (status.serving, status.warnings) == (True, [])
    record(folder, guard_outcomes=outcomes(*[("train", "policy_hours"), ("query", "ok")] * 2))
    status = read_status(folder)
    assert status.serving
    lines = format_status(status, None, 0, as_json=False).splitlines()
    assert lines[1] == "last task: query of round 4, 0 s ago: ok"
    assert lines[2].startswith(
        "WARN  train failed 2 times in a row: policy_hours: The site's policy"
    )
    printed = json.loads(format_status(status, None, 0, as_json=True))
    assert (printed["last_task"]["code"], len(printed["warnings"])) == ("ok", 1)
    record(folder, guard_outcomes={"train": {"kind": 7}})  # an older or foreign record says nothing
    assert read_status(folder).last_task is None


def test_before_the_first_start(folder: ServiceFolder) -> None:
    assert "the service does not run; start it" in read_status(folder).reason


def test_the_health_service_says_the_same(folder: ServiceFolder) -> None:
    record(folder)
    address = folder.coordinator.health
    assert address is not None
    answer = health_pb2.HealthCheckResponse

    def asked() -> int:
        return stub.Check(health_pb2.HealthCheckRequest(), timeout=5, wait_for_ready=True).status

    def becomes(status: int) -> bool:
        return wait_until(lambda: asked() == status)

    with serve_health(folder), grpc.insecure_channel(address) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        assert becomes(answer.SERVING)
        record(folder, node_success=time.time() - 3 * 86400)
        assert becomes(answer.NOT_SERVING)
        record(folder)
        assert becomes(answer.SERVING)
        record(folder, guard_gpu_expected=True, guard_gpu_reason="CUDA is gone")
        assert becomes(answer.NOT_SERVING)
        record(folder, guard_gpu_expected=True, guard_gpu_reason=None)
        assert becomes(answer.SERVING)


def test_a_record_is_written_at_once_when_it_is_news(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    kept = Record(path, pause=1000)
    kept.put(news=True, a=1)
    kept.put(news=False, a=2)
    assert read_if_whole(path) == {"a": 1}
    kept.put(news=True, b=3)
    assert read_if_whole(path) == {"a": 2, "b": 3}


def test_a_site_file_without_a_coordinator(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(FILE)
    with pytest.raises(ConfigError, match="site north: key 'coordinator' is missing"):
        _ = ServiceFolder(load_site(path)).coordinator


def test_a_health_port_that_is_taken_ends_the_start_with_one_line(
    tmp_path: Path,
) -> None:
    authority = tmp_path / "ca.crt", tmp_path / "ca.key"
    make_authority("demo", *authority)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        (tmp_path / "archive").mkdir()
        init_site(tmp_path / "site", "alder", tmp_path / "archive", "127.0.0.1:1", authority[0])
        path = tmp_path / "site" / "site.yaml"
        settings = yaml.safe_load(path.read_text())
        settings["coordinator"]["health"] = f"127.0.0.1:{taken.getsockname()[1]}"
        path.write_text(yaml.safe_dump(settings))
        with pytest.raises(ServiceError, match=r"cannot listen.*free port"):
            daemon.serve(path)
