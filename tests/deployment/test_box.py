"""A federation in a box is the same federation as the one in a single process, and leaves nothing running."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import torch
import yaml
from safetensors.torch import load_file

from mama.errors import QuorumError
from sim.run import Listeners, federate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


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
def one_thread_sites(site_files: Callable[..., list[Path]]) -> Callable[[str], list[Path]]:
    def copy(name: str) -> list[Path]:
        files = site_files(name)
        for path in files:
            path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | {"threads": 1}))
        return files

    return copy


@pytest.fixture
def mark(monkeypatch: pytest.MonkeyPatch) -> str:
    """What every process that this test starts carries."""
    value = uuid4().hex
    monkeypatch.setenv("FEDMAMA_MARK", value)
    return value


def nothing_left(mark: str) -> bool:
    end = time.monotonic() + 15
    while (left := processes(mark)) and time.monotonic() < end:
        time.sleep(0.2)
    return left == set()


def test_real_processes_train_the_same_model(
    small_config: Any,
    one_thread_sites: Callable[[str], list[Path]],
    tmp_path: Path,
    mark: str,
) -> None:
    torch.set_num_threads(1)
    experiment = small_config().experiment()
    federate(experiment, one_thread_sites("a"), tmp_path / "here")
    seen: set[str] = set()

    def look(event: dict[str, Any]) -> None:
        seen.update(processes(mark))

    metrics = federate(
        experiment,
        one_thread_sites("b"),
        tmp_path / "there",
        engine="deployment",
        listeners=Listeners(event=look),
    )

    assert nothing_left(mark)
    assert {"flower-superlin", "flower-superexe", "flwr-serverapp"} <= seen
    assert metrics["sites"] == ["alder", "birch", "cedar"]
    assert metrics["problems"] == []
    here, there = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("here", "there")
    )
    assert here.keys() == there.keys()
    for name, tensor in here.items():
        torch.testing.assert_close(there[name], tensor, rtol=0, atol=1e-5, msg=name)
    # No private key is where another could read it.
    for key in (tmp_path / "there").rglob("*.key"):
        assert key.stat().st_mode & 0o077 == 0


def test_real_processes_add_up_updates_that_the_coordinator_does_not_see(
    small_config: Any, one_thread_sites: Callable[[str], list[Path]], tmp_path: Path, mark: str
) -> None:
    torch.set_num_threads(1)
    quorum = "federation={rounds: 1, local_steps: 2, quorum: 3}"
    secure = "privacy.secure={threshold: 2, bits: 24, limit: 0.5}"
    federate(small_config(quorum).experiment(), one_thread_sites("d"), tmp_path / "plain")
    metrics = federate(
        small_config(quorum, secure).experiment(),
        one_thread_sites("e"),
        tmp_path / "masked",
        engine="deployment",
    )
    assert nothing_left(mark)
    assert metrics["problems"] == []
    plain, masked = (
        load_file(tmp_path / name / "final" / "model.safetensors") for name in ("plain", "masked")
    )
    for name, tensor in plain.items():
        torch.testing.assert_close(masked[name], tensor, rtol=0, atol=1e-5, msg=name)


def test_twelve_sites_on_one_machine(
    small_config: Any, one_thread_sites: Callable[[str], list[Path]], tmp_path: Path, mark: str
) -> None:
    files = []
    for path in one_thread_sites("d"):
        for number in range(1, 5):
            name = f"{path.parent.name}-{number}"
            copy = shutil.copytree(path.parent, path.parent.with_name(name))
            settings = yaml.safe_load(path.read_text()) | {"site": name}
            (copy / "site.yaml").write_text(yaml.safe_dump(settings))
            files.append(copy / "site.yaml")
    # Sites that are not there when the minute of gathering is over join a later round.
    experiment = small_config("federation={rounds: 3, local_steps: 1, quorum: 4}").experiment()
    metrics = federate(experiment, files, tmp_path / "out", engine="deployment")
    assert nothing_left(mark)
    assert (metrics["status"], metrics["problems"]) == ("finished", [])
    lines = (tmp_path / "out" / "rounds.jsonl").read_text().splitlines()
    rounds = [event for event in map(json.loads, lines) if event["event"] == "round"]
    assert sorted(rounds[-1]["sites"]) == metrics["sites"] == sorted(p.parent.name for p in files)


def test_too_few_sites_end_it_the_same_way(
    small_config: Any,
    one_thread_sites: Callable[[str], list[Path]],
    tmp_path: Path,
    mark: str,
) -> None:
    experiment = small_config("federation.quorum=4").experiment()
    with pytest.raises(QuorumError, match="3 of at least 4 sites answered"):
        federate(experiment, one_thread_sites("c"), tmp_path / "out", engine="deployment")
    assert nothing_left(mark)
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["status"] == "stopped"
    assert (tmp_path / "out" / "report.html").is_file()
