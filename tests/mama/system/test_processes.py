"""Workers end with their parent, however it ends, and ignore its environment."""

import gc
import importlib
import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from mama.system import processes
from mama.system.processes import TESTED_FLOWER, importing, untested_flower, without_proxies
from tests.waiting import PATIENCE_S, wait_until

ROOT = Path(__file__).parents[3]
OURS = "from mama.system.processes import worker_pool"
PLAIN = (
    "from concurrent.futures import ProcessPoolExecutor; from multiprocessing import get_context\n"
    "worker_pool = lambda n: ProcessPoolExecutor(n, mp_context=get_context('spawn'))"
)
PARENT = """
import os, time
if __name__ == "__main__":
    {make}
    pool = worker_pool(2)
    ids = {{pool.submit(os.getpid).result() for _ in range(20)}}
    print(*ids, flush=True)
    time.sleep(600)
"""


def alive(process: int) -> bool:
    with suppress(OSError):
        state = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2]
        return state.split()[0] != "Z"
    return False


@pytest.mark.parametrize(("make", "left"), [(OURS, False), (PLAIN, True)], ids=["ours", "plain"])
def test_workers_die_with_a_parent_that_is_killed(tmp_path: Path, make: str, left: bool) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(make=make.replace("\n", "\n    ")), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, env=environment, cwd=ROOT
    )
    assert parent.stdout is not None
    workers = [int(word) for word in parent.stdout.readline().split()]
    assert workers
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    found = not wait_until(lambda: not any(map(alive, workers)), 2 if left else PATIENCE_S)
    for worker in workers:
        if alive(worker):
            os.kill(worker, signal.SIGKILL)
    parent.stdout.close()
    assert found == left


STARTER = """
import os, subprocess, sys, time
from pathlib import Path
from mama.system.processes import nothing_left_in
folder = Path(sys.argv[1])
with nothing_left_in(folder):
    # A process of its own session and group, as a library may start it.
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    print(subprocess.Popen(command, cwd=folder, start_new_session=True).pid, flush=True)
    {then}
"""


@pytest.mark.parametrize("then", ["time.sleep(600)", "pass", "raise RuntimeError", "os._exit(1)"])
def test_nothing_that_works_in_a_folder_outlives_us(tmp_path: Path, then: str) -> None:
    folder, beside = tmp_path / "folder", tmp_path / "folder2"
    folder.mkdir()
    beside.mkdir()
    sleep = [sys.executable, "-c", "import time; time.sleep(600)"]
    other = subprocess.Popen(sleep, cwd=beside)
    starter = subprocess.Popen(
        [sys.executable, "-c", STARTER.format(then=then), folder],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert starter.stdout is not None
    left = int(starter.stdout.readline())
    if "sleep" in then:
        assert alive(left)
        starter.send_signal(signal.SIGKILL)
    starter.wait()
    wait_until(lambda: not alive(left) and not folder.exists())
    found = alive(left), folder.exists(), alive(other.pid)
    other.kill()
    other.wait()
    starter.stdout.close()
    assert found == (False, False, True)


def test_no_variable_names_a_proxy() -> None:
    names = ["http_proxy", "HTTPS_PROXY", "ALL_PROXY", "grpc_proxy", "FTP_proxy", "no_grpc_proxy"]
    given = {name: "http://127.0.0.1:9" for name in names} | {"PATH": "/bin"}
    assert without_proxies(given) == {"PATH": "/bin", "NO_PROXY": "*", "no_proxy": "*"}


@pytest.mark.parametrize("name", ["dl", "DLFCN"])
@pytest.mark.parametrize("package", [True, False])
def test_a_folder_where_a_command_is_run_is_no_module(
    tmp_path: Path, name: str, package: bool
) -> None:
    (tmp_path / name).mkdir()
    if package:
        (tmp_path / name / "__init__.py").touch()
    ended = subprocess.run(
        [sys.executable, "-m", "mama.cli", "ingest", "nothing", "out", "--adapter", "mias"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr == ("error: nothing: no such folder. Check the path of the data\n")


@pytest.mark.parametrize("found", ["1.41.0", "1.42.3"])
def test_a_tested_version_is_no_warning(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "version", lambda name: found)
    assert untested_flower() is None


@pytest.mark.parametrize("found", ["1.40.0", "1.43.0", "2.0.0", "1.4.1", "1.410.0"])
def test_another_version_is_one_line_that_names_both(
    found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "version", lambda name: found)
    warning = untested_flower()
    assert warning is not None
    assert "\n" not in warning
    assert found in warning
    assert "1.41 and 1.42" in warning


def test_the_installation_allows_the_tested_versions_alone() -> None:
    (low, high) = re.findall(
        r"flwr\[simulation\]>=1\.(\d+),<1\.(\d+)", (ROOT / "pyproject.toml").read_text()
    )[0]
    assert [f"1.{minor}" for minor in range(int(low), int(high))] == list(TESTED_FLOWER)


@pytest.mark.parametrize("enabled", [True, False])
def test_collection_is_as_before_when_imports_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, enabled: bool
) -> None:
    (tmp_path / "large_library.py").write_text("import gc\nCOLLECTING = gc.isenabled()\n")
    monkeypatch.syspath_prepend(tmp_path)
    before, frozen = gc.isenabled(), gc.get_freeze_count()
    (gc.enable if enabled else gc.disable)()
    try:
        with importing():
            importlib.import_module("sys")
        assert gc.get_freeze_count() == frozen
        with suppress(ImportError), importing():
            library = importlib.import_module("large_library")
            raise ImportError
        assert not library.COLLECTING
        assert gc.isenabled() == enabled
        assert gc.get_freeze_count() > frozen
    finally:
        (gc.enable if before else gc.disable)()
        gc.unfreeze()
        sys.modules.pop("large_library", None)
