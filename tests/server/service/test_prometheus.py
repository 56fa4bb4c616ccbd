"""`mama-server metrics`: what Prometheus reads, line by line, and what each figure is."""

import re
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from server.cli import main
from server.run.folder import RunFolder
from server.service import overview as module
from server.service.control import Node
from server.service.jobs import JobFile
from server.service.prometheus import metrics
from tests.events import made as event_of
from tests.server.bench import Bench, bench, folder
from tests.server.service.test_overview import nodes

__all__ = ["bench", "folder", "nodes"]  # fixtures

# The grammar of Prometheus' text format, written down here anew.
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\["\\n])*"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (-?[0-9.e+-]+)")
PAIR = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
Labels = tuple[tuple[str, str], ...]


def parsed(text: str) -> dict[str, dict[Labels, float]]:
    """Return values by name and labels; every line must be valid, and every series unique."""
    assert text.endswith("\n")
    found: dict[str, dict[Labels, float]] = {}
    helped = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            helped = line.split(" ")[2]
            assert helped not in found
            found[helped] = {}
        elif line.startswith("# TYPE "):
            assert line == f"# TYPE {helped} gauge"
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            name, labels, value = match.groups()
            assert name == helped
            pairs = tuple(
                (key, re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], text))
                for key, text in PAIR.findall(labels or "")
            )
            assert pairs not in found[name]
            found[name][pairs] = float(value)
    return found


def of(found: dict[str, dict[Labels, float]], name: str, **labels: str) -> float:
    return found[f"fedmama_{name}"][tuple(labels.items())]


@pytest.fixture
def runs(bench: Bench, folder: Callable[[str], RunFolder]) -> dict[str, RunFolder]:
    """One that runs, one in the queue and one that failed, whose reason is not a plain word."""
    made = {name: folder(name) for name in ("at_work", "queued", "bad")}
    for run in made.values():
        JobFile(bench.home, run.path).ask()
    for name, changes in {
        "at_work": {"state": "running"},
        "bad": {"state": "failed", "reason": 'no "quorum" in C:\\runs\nroot'},
    }.items():
        file = JobFile(bench.home, made[name].path)
        job = file.read()
        assert job is not None
        file.write(job.model_copy(update=changes))
    made["at_work"].log(
        event_of({"event": "start", "run": "r", "round": 2, "rounds": 7, "shares": {}})
    )
    return made


def test_every_figure(bench: Bench, nodes: list[Node], runs: dict[str, RunFolder]) -> None:
    key = nodes[0].public_key
    nodes[0] = Node(1, "alder", key, "online", time.time() - 42)
    found = parsed(metrics(bench.home))
    assert of(found, "up", federation="demo") == 1
    assert 360 <= of(found, "certificate_days_left") <= 365
    counts = {"online": 1, "offline": 2, "revoked": 1, "unknown": 0}
    assert {s: of(found, "sites", state=s) for s in counts} == counts
    assert found["fedmama_site_online"] == {
        (("site", "alder"),): 1,
        (("site", "birch"),): 0,
        (("site", "cedar"),): 0,
    }
    assert list(found["fedmama_site_seconds_since_heard"]) == [(("site", "alder"),)]
    assert 42 <= of(found, "site_seconds_since_heard", site="alder") < 60
    counts = {"queued": 1, "running": 1, "finished": 0, "failed": 1, "stopped": 0}
    assert {s: of(found, "runs", state=s) for s in counts} == counts
    assert (of(found, "run_round", run="at_work"), of(found, "run_rounds", run="at_work")) == (2, 7)
    assert of(found, "run_state", run="at_work", state="running") == 1
    assert 0 <= of(found, "run_seconds_since_event", run="at_work") < 60
    assert list(found["fedmama_run_rounds"]) == [(("run", "at_work"),)]
    ((labels, one),) = found["fedmama_last_error_info"].items()
    assert (dict(labels), one) == ({"run": "bad", "reason": 'no "quorum" in C:\\runs root'}, 1)
    folders = {dict(labels)["folder"] for labels in found["fedmama_disk_free_bytes"]}
    assert folders == {"state", "."}
    assert all(free > 0 for free in found["fedmama_disk_free_bytes"].values())


def test_a_service_that_is_down(
    bench: Bench, nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_running", lambda home: False)
    found = parsed(metrics(bench.home))
    assert of(found, "up", federation="demo") == 0
    assert of(found, "sites", state="unknown") == 3
    # Of sites that cannot be asked about nothing is claimed.
    assert found["fedmama_site_online"] == found["fedmama_site_seconds_since_heard"] == {}
    assert found["fedmama_last_error_info"] == {}


def test_the_command(
    bench: Bench, nodes: list[Node], command: Callable[..., Any], tmp_path: Path
) -> None:
    printed = command(main, "metrics", "--federation", bench.home.path)
    assert (printed.code, printed.err) == (0, "")
    out = tmp_path / "collector" / "fedmama.prom"
    ended = command(main, "metrics", "--out", out, "--federation", bench.home.path)
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert set(parsed(out.read_text())) == set(parsed(printed.out))
    assert stat.S_IMODE(out.stat().st_mode) == 0o644
    assert [path.name for path in out.parent.iterdir()] == ["fedmama.prom"]
    ended = command(main, "metrics", "--federation", tmp_path / "absent.yaml")
    assert (ended.code, ended.out, ended.err.count("\n")) == (2, "", 1)
