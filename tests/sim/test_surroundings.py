"""The simulation engine in its environment: proxies, long paths, foreign clusters, failures."""

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest

import sim.engines.flower
from mama.errors import ServiceError
from sim.engines.deployment import service
from sim.engines.flower import LONGEST_SOCKET, SOCKET, temporary_folder
from tests.conftest import ROOT, SMALL
from tests.waiting import wait_until

HOSTILE = {
    "HTTP_PROXY": "http://127.0.0.1:9",
    "HTTPS_PROXY": "http://127.0.0.1:9",
    "ALL_PROXY": "http://127.0.0.1:9",
    "grpc_proxy": "http://127.0.0.1:9",
    "RAY_ADDRESS": "127.0.0.1:9",
}


def test_a_long_folder_of_temporary_files_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("a" * 100)))
    assert temporary_folder() == Path("/tmp")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ServiceError, match="Set TMPDIR to a folder of at most 17 characters"):
        temporary_folder()


def test_the_limit_is_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: True)
    room = LONGEST_SOCKET - SOCKET
    for name, taken in (("/" + "a" * (room - 1), True), ("/" + "ä" * (room - 1), False)):
        monkeypatch.setattr(tempfile, "tempdir", name)
        assert (temporary_folder() == Path(name)) == taken


def test_processes_of_the_box_ask_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    environment = service("alder", "client", "site.yaml").environment
    assert not [k for k in environment if k.lower().endswith("_proxy") and environment[k] != "*"]


def run(tmp_path: Path, code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    settings = [word for line in [*SMALL, "federation.rounds=1"] for word in ("--set", line)]
    command = ["run", str(ROOT / "configs/quickstart.yaml"), "--engine", "flower", "--quiet"]
    arguments = [*command, "--out", str(tmp_path / "run"), *settings]
    return subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom sim.cli import main; main()", *arguments],
        cwd=ROOT,
        env={**os.environ, **HOSTILE, **environment},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_a_run_in_hostile_surroundings(tmp_path: Path) -> None:
    folder = tmp_path / ("a_long_name_of_a_job_" * 5)
    folder.mkdir()
    ended = run(tmp_path, "", TMPDIR=str(folder))
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "run" / "report.html").exists()


@pytest.mark.slow
def test_what_stops_the_engine_ends_the_process_with_one_line(tmp_path: Path) -> None:
    folder = tmp_path / ("a_long_name_of_a_job_" * 5)
    folder.mkdir()
    code = (
        f"import sim.engines.flower; sim.engines.flower.temporary_folder = lambda: {str(folder)!r}"
    )
    ended = run(tmp_path, code)
    assert ended.returncode == ServiceError.exit_code
    assert ended.stderr.startswith("error: Flower's simulation engine stopped (OSError: ")
    assert "AF_UNIX" in ended.stderr
    assert ended.stderr.count("\n") == 1


@pytest.mark.slow
def test_nothing_of_the_engine_outlives_a_run_that_is_killed(tmp_path: Path) -> None:
    """The raylet, Ray's agents and the sites' workers work in the engine's folder."""
    folder = Path(tempfile.mkdtemp(prefix="t", dir="/tmp"))  # short, for sockets
    settings = [w for line in [*SMALL, "federation.rounds=99"] for w in ("--set", line)]
    command = ["run", str(ROOT / "configs/quickstart.yaml"), "--engine", "flower", "--quiet"]
    code = (
        "import sim.engines.flower\n"
        f"sim.engines.flower.temporary_folder = lambda: {str(folder)!r}\n"
        "from sim.cli import main; main()"
    )
    run = subprocess.Popen(
        [sys.executable, "-c", code, *command, "--out", str(tmp_path / "run"), *settings],
        cwd=ROOT,
        env={**os.environ, **HOSTILE},
    )

    def inside() -> list[int]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                if (entry / "cwd").readlink().is_relative_to(folder):
                    found.append(int(entry.name))
        return found

    log = tmp_path / "run" / "rounds.jsonl"
    try:
        wait_until(lambda: log.exists() and b'"norms"' in log.read_bytes())
        assert len(inside()) > 3
    finally:
        run.kill()
        run.wait()
    wait_until(lambda: not list(folder.iterdir()) and not inside())
    assert not list(folder.iterdir())
    assert inside() == []
    folder.rmdir()


def test_the_environment_is_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> None:
        assert "RAY_ADDRESS" not in os.environ
        assert os.environ["NO_PROXY"] == "*"
        raise RuntimeError("An error was encountered") from OSError("no room\nfor a socket")

    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("flwr.simulation.run_simulation", stop)
    before, here = dict(os.environ), Path.cwd()
    with pytest.raises(ServiceError, match=r"stopped \(OSError: no room\)") as error:
        sim.engines.flower.run_flower(None, None, 1, {})  # type: ignore[arg-type]
    assert "\n" not in str(error.value)
    assert (dict(os.environ), Path.cwd()) == (before, here)
