"""Files of deploy/: sound, as far as can be checked without Docker and a cluster."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
UNITS = sorted((DEPLOY / "systemd").glob("*.service"))


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.name)
def test_systemd_finds_no_fault_in_a_unit(unit: Path, tmp_path: Path) -> None:
    text = unit.read_text()
    assert re.search(r"^ExecStart=/opt/fedmama/bin/mama-(server|site) start ", text, re.M)
    # Only what is not installed on this machine is replaced.
    text = re.sub(r"/opt/fedmama/bin/\S+", sys.executable, text).replace(
        "User=fedmama", "User=root"
    )
    copy = tmp_path / unit.name
    copy.write_text(text.replace("Group=fedmama", "Group=root"))
    command = ["systemd-analyze", "verify", "--man=no", str(copy)]
    ended = subprocess.run(command, capture_output=True, text=True)
    complaints = [line for line in ended.stderr.splitlines() if unit.name in line]
    assert complaints == []


def test_the_image_copies_what_there_is_and_does_not_run_as_root() -> None:
    lines = (DEPLOY / "docker" / "Dockerfile").read_text().splitlines()
    stages = [i for i, line in enumerate(lines) if line.startswith("FROM ")]
    assert all(":" in lines[i] for i in stages), "a base image without a tag"
    copied = [
        name
        for line in lines
        if line.startswith("COPY ") and "--from" not in line
        for name in line.split()[1:-1]
    ]
    assert [name for name in copied if not (ROOT / name).exists()] == []
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages - {"tests", "benchmarks"} <= set(copied)
    last = lines[stages[-1] :]
    assert "USER fedmama" in last
    assert last.index("USER fedmama") < next(
        i for i, line in enumerate(last) if line.startswith("ENTRYPOINT")
    )
    assert not any(re.search(r"\bsudo\b|:latest", line) for line in lines)


@pytest.mark.parametrize(
    "path",
    sorted([*DEPLOY.glob("docker/*.yaml"), *DEPLOY.glob("kubernetes/*.yaml")]),
    ids=lambda path: path.name,
)
def test_yaml_loads_and_calls_commands_that_exist(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    services = content.get("services", {})
    pods = content.get("spec", {}).get("template", {}).get("spec", {}).get("containers", [])
    assert services or pods
    commands = [s["command"] for s in services.values() if "command" in s]
    commands += [pod["args"] for pod in pods]
    for command in commands:
        assert command[:2] in (["mama-server", "start"], ["mama-site", "start"])
    for service in services.values():
        if dockerfile := (service.get("build") or {}).get("dockerfile"):
            assert (ROOT / dockerfile).is_file()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_a_wheelhouse_that_was_changed_is_not_installed(tmp_path: Path) -> None:
    script = DEPLOY / "wheelhouse.sh"
    house = tmp_path / "house"
    house.mkdir()
    (house / "constraints.txt").write_text("numpy==2.0\n")
    sums = subprocess.run(
        ["sha256sum", "constraints.txt"], cwd=house, capture_output=True, text=True, check=True
    ).stdout
    (house / "SHA256SUMS").write_text(sums)
    (house / "constraints.txt").write_text("numpy==1.0\n")
    target = tmp_path / "installed"
    ended = subprocess.run(["sh", script, "install", house, target], capture_output=True, text=True)
    assert ended.returncode != 0
    assert "constraints.txt: FAILED" in ended.stdout + ended.stderr
    assert not target.exists()
    # Nor one to which a newer version was added.
    (house / "constraints.txt").write_text("numpy==2.0\n")
    (house / "fedmama-9.9-py3-none-any.whl").write_bytes(b"")
    ended = subprocess.run(["sh", script, "install", house, target], capture_output=True, text=True)
    assert ended.returncode == 1
    assert "fedmama-9.9-py3-none-any.whl is not in the list" in ended.stderr
    assert not target.exists()


def test_the_wheelhouse_says_what_it_wants() -> None:
    ended = subprocess.run(["sh", DEPLOY / "wheelhouse.sh"], capture_output=True, text=True)
    assert ended.returncode != 0
    assert "make or install" in ended.stderr
