"""Federation in a box: equal to a single process, local only, nothing left running."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mama.errors import QuorumError
from sim.engines.deployment import LocalDeployment
from sim.run import federate
from tests.attacks.campaign import FULL
from tests.waiting import wait_until

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow
# A busy machine must not leave a site out.
ALL = "participation={quorum: 3, deadline_s: 800}"


def processes(mark: str) -> set[str]:
    """Names of all other processes that inherited a mark in their environment."""
    names = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if int(entry.name) != os.getpid() and mark.encode() in (entry / "environ").read_bytes():
                names.add((entry / "comm").read_text().strip())
        except OSError:
            continue
    return names


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """What every process that this test starts carries."""
    value = uuid4().hex
    monkeypatch.setenv("FEDMAMA_MARK", value)
    return value


def nothing_left(mark: str) -> bool:
    return wait_until(lambda: not processes(mark))


# The federation in a box; beside it all its processes and every open connection of this network are
# written down, ten times a second. In a network of its own the route leads everywhere and nowhere,
# so that an attempt to reach the outside hangs and is seen: first one of ours.
WATCHED = """
import json, os, socket, subprocess, sys, threading
from pathlib import Path
from mama.config import Experiment
from mama.config.load import load
from mama.errors import QuorumError
from sim.engines.deployment import LocalDeployment
from sim.run import federate
from tests.deployment.test_box import processes

def watch():
    while not done.wait(0.1):
        names.update(processes(os.environ["FEDMAMA_MARK"]))
        with looking:
            for name in ("tcp", "tcp6", "udp", "udp6"):
                for line in Path("/proc/net", name).read_text().splitlines()[1:]:
                    seen.add(line.split()[2].rpartition(":")[0])

if __name__ == "__main__":
    own_network, (experiment, out, *files) = sys.argv[1] == "True", map(Path, sys.argv[2:])
    if own_network:
        for words in ("link set lo up", "route add default dev lo src 127.0.0.1"):
            subprocess.run(["ip", *words.split()], check=True)
    seen, names, done, looking = set(), set(), threading.Event(), threading.Lock()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        if own_network:
            try:
                socket.create_connection(("192.0.2.1", 443), timeout=1)
            except OSError:
                pass
        with looking:  # no look from before our attempt's end is added later
            control = sorted(seen)
            seen.clear()
        metrics = federate(load(Experiment, experiment), files, out, engine="deployment")
    finally:
        done.set()
        watcher.join()
    print(json.dumps({
        "own_network": own_network, "control": control, "seen": sorted(seen),
        "processes": sorted(names), "metrics": metrics,
    }))
"""
TEST_NET = "010200C0"  # 192.0.2.1
LOOPBACK = {"0100007F", "00000000", "0" * 32, "00000000000000000000000001000000"}
LOOPBACK |= {"0000000000000000FFFF00000100007F"}


def can_unshare() -> bool:
    there = shutil.which("unshare") and shutil.which("ip")
    return bool(there) and not subprocess.run(["unshare", "-n", "true"]).returncode


@pytest.fixture(scope="module")
def boxed(
    small_config: Any, made_sites: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What a small run in a box said and did, in a network of its own where that is allowed."""
    folder, mark, own_network = tmp_path_factory.mktemp("boxed"), uuid4().hex, can_unshare()
    experiment = small_config(ALL).experiment().model_dump(mode="json")
    (folder / "experiment.yaml").write_text(yaml.safe_dump(experiment))
    (folder / "watched.py").write_text(WATCHED)
    files = with_one_thread(made_sites, folder / "hospitals")
    ended = subprocess.run(
        [
            *(["unshare", "-n"] if own_network else []),
            *(sys.executable, folder / "watched.py", str(own_network)),
            *(folder / "experiment.yaml", folder / "out", *files),
        ],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "FEDMAMA_MARK": mark},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout.splitlines()[-1]) | {"folder": folder, "mark": mark}


def with_one_thread(made_sites: Path, folder: Path) -> list[Path]:
    """Copy the hospitals, with sums of a single thread; return their site files."""
    shutil.copytree(made_sites / "sites", folder)
    files = sorted(folder.glob("*/site.yaml"))
    for path in files:
        path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"threads": 1}))
    return files


def test_real_processes_train_the_same_model(
    small_config: Any, made_sites: Path, boxed: dict[str, Any], tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    files = with_one_thread(made_sites, tmp_path / "hospitals")
    federate(small_config(ALL).experiment(), files, tmp_path / "here")

    assert nothing_left(boxed["mark"])
    own = Path(sys.executable).name[:15]  # as the kernel names our own programs
    assert {"flower-superlin", own} <= set(boxed["processes"])
    assert boxed["metrics"]["sites"] == ["alder", "birch", "cedar"]
    assert boxed["metrics"]["problems"] == []
    here, there = (
        load_file(folder / "final" / "model.safetensors")
        for folder in (tmp_path / "here", boxed["folder"] / "out")
    )
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-5, msg=name)
    # No private key is where another could read it.
    keys = list((boxed["folder"] / "out").rglob("*.key"))
    assert keys
    for key in keys:
        assert key.stat().st_mode & 0o077 == 0


def test_nothing_phones_home(boxed: dict[str, Any]) -> None:
    if not boxed["own_network"]:
        pytest.skip("needs the right to make a network namespace")
    assert TEST_NET in boxed["control"]
    assert "0100007F" in boxed["seen"]
    assert set(boxed["seen"]) <= LOOPBACK


def test_a_box_whose_run_fails_leaves_nothing_either(tmp_path: Path, mark: str) -> None:
    def run() -> None:
        with LocalDeployment(tmp_path).running():
            assert processes(mark)
            raise QuorumError("too few sites")

    with pytest.raises(QuorumError):
        run()
    assert nothing_left(mark)


# Services that start at once: thirteen take 5 to 11 minutes on two cores.
COPIES = 4 if FULL else 2


def test_many_sites_on_one_machine(
    small_config: Any, made_sites: Path, tmp_path: Path, mark: str
) -> None:
    files = []
    for path in with_one_thread(made_sites, tmp_path / "hospitals"):
        for number in range(1, COPIES + 1):
            name = f"{path.parent.name}-{number}"
            copy = shutil.copytree(path.parent, path.parent.with_name(name))
            settings = yaml.safe_load(path.read_text()) | {"site": name}
            (copy / "site.yaml").write_text(yaml.safe_dump(settings))
            files.append(copy / "site.yaml")
    # Sites that are not there when the minute of gathering is over join a later round.
    experiment = small_config(
        "federation={rounds: 2, local_steps: 1}", "participation.quorum=4"
    ).experiment()
    metrics = federate(experiment, files, tmp_path / "out", engine="deployment")
    assert nothing_left(mark)
    assert (metrics["status"], metrics["problems"]) == ("finished", [])
    lines = (tmp_path / "out" / "rounds.jsonl").read_text().splitlines()
    rounds = [event for event in map(json.loads, lines) if event["event"] == "round"]
    assert sorted(rounds[-1]["sites"]) == metrics["sites"] == sorted(p.parent.name for p in files)
