"""Commands of docs/backup.md restore a hospital and a coordinator; so do its remarks on loss."""

import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.cli import main as site_main
from client.site.config import load_site
from mama.data.manifest import Dataset
from mama.exchange.signing import write_key_pair
from server.cli import main as server_main
from server.federation.home import Home

ROOT = Path(__file__).parents[1]
MAINS = {"mama-site": site_main, "mama-server": server_main}


def blocks(heading: str) -> list[list[str]]:
    """The commands of a part of the page, block by block."""
    page = (ROOT / "docs" / "backup.md").read_text()
    part = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return [found.splitlines() for found in re.findall(r"```bash\n(.*?)```", part, re.S)]


@pytest.fixture
def type_(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Type lines in tmp_path; returns what they print."""
    monkeypatch.chdir(tmp_path)

    def run(lines: list[str]) -> str:
        said = ""
        for line in lines:
            program, *words = shlex.split(line)
            if program not in MAINS:
                subprocess.run([program, *words], check=True)
                continue
            ended = command(MAINS[program], *words)
            assert (ended.code, ended.err) == (0, ""), line
            said += ended.out
        return said

    return run


def contents(folder: Path, but: str) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mode, path.read_bytes())
        for path in folder.rglob("*")
        if path.is_file() and but not in path.parts
    }


def test_a_hospital_comes_back(
    site_files: Callable[[], list[Path]], type_: Any, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    shutil.copytree(site_files()[0].parent, site)
    path = site / "site.yaml"
    settings = yaml.safe_load(path.read_text())
    settings["data"]["source"] = str(load_site(site_files("other")[0]).data.source)
    path.write_text(yaml.safe_dump(settings))
    for name in ("privacy/ledger", "privacy/unmasked", "state/service/approved/x"):
        (site / name).parent.mkdir(parents=True, exist_ok=True)
        (site / name).write_text(name)
    before, studies = contents(site, "dataset"), ids(path)
    save, restore = blocks("A hospital")
    type_(save)
    shutil.rmtree(site)
    type_(restore)
    after = contents(site, "dataset")
    assert {name: after[name] for name in before} == before
    assert after["secret.key"][0] & 0o777 == 0o600
    assert ids(path) == studies


def ids(path: Path) -> set[tuple[str, str]]:
    """Pseudonyms of patients and studies."""
    studies = Dataset(load_site(path).data.dataset).manifest.studies
    assert studies
    return {(study.patient, study.id) for study in studies}


def test_a_coordinator_comes_back(type_: Any, tmp_path: Path) -> None:
    (tmp_path / "federation.yaml").write_text("name: demo\naddress: fl.example.org:8443\n")
    write_key_pair(tmp_path / "node.key", tmp_path / "node.pub")
    said = type_(["mama-server provision", "mama-server enrol alder node.pub"])
    pin = re.findall("[0-9a-f]{64}", said)[0]
    (tmp_path / "runs" / "first").mkdir(parents=True)
    (tmp_path / "runs" / "first" / "rounds.jsonl").write_text("{}\n")
    state = tmp_path / "state"
    (state / "flower").mkdir()
    (state / "flower" / "link.db").write_text("of Flower")
    before = contents(state, "flower")
    key = before.pop("ca.key")
    save, restore = blocks("The coordinator")
    type_(save)
    shutil.rmtree(state)
    shutil.rmtree(tmp_path / "runs")
    said = type_(restore)
    assert "created: nothing, everything exists already" in said
    assert pin in said
    assert "roster version 1: alder (share 1)" in said
    assert contents(state, "flower") == before
    assert key not in contents(tmp_path, "nothing").values()
    assert (tmp_path / "runs" / "first" / "rounds.jsonl").exists()


@pytest.mark.parametrize(
    ("lost", "mend"),
    [
        ("executor.secret", "mama-server provision"),
        ("server.key", "mama-server renew"),
        ("server.crt", "mama-server renew"),
    ],
)
def test_what_a_coordinator_loses_is_made_anew(
    type_: Any, tmp_path: Path, lost: str, mend: str
) -> None:
    (tmp_path / "federation.yaml").write_text("name: demo\naddress: fl.example.org:8443\n")
    type_(["mama-server provision"])
    home = Home(tmp_path / "federation.yaml")
    authority = home.ca_certificate.read_bytes()
    (home.state / lost).unlink()
    type_([mend])
    assert (home.state / lost).stat().st_size > 0
    assert home.ca_certificate.read_bytes() == authority
