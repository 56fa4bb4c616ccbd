"""State of a federation as text for Prometheus, for example for a textfile collector.

Exposition format 0.0.4.
"""

import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple, get_args

from server.federation.home import Home
from server.service.job import State
from server.service.overview import Overview, overview

SITE_STATES = ("online", "offline", "revoked", "unknown")


class Sample(NamedTuple):
    """One value with its labels."""

    labels: dict[str, str]
    value: float


class Metric(NamedTuple):
    """A gauge: its name behind `fedmama_`, a line on what it is, and its values."""

    name: str
    help: str
    samples: Iterable[Sample]


def metrics(home: Home) -> str:
    """Return all metrics of a federation; every line ends with a line break.

    Raises:
        MamaError: the federation is not provisioned, or its files are damaged.
    """
    return "".join(_text(metric) for metric in _metrics(home, overview(home)))


def _metrics(home: Home, whole: Overview) -> Iterator[Metric]:
    states = Counter(whole["sites"].values())
    known = {s: state for s, state in whole["sites"].items() if state in ("online", "offline")}
    yield Metric(
        "up",
        "1 if the service runs and answers",
        [Sample({"federation": whole["federation"]}, whole["service"] == "running")],
    )
    yield _plain(
        "certificate_days_left",
        "Days until the server's certificate expires",
        whole["certificate_days"],
    )
    yield Metric(
        "sites",
        "Number of sites by state; unknown while the service does not answer",
        [Sample({"state": state}, states[state]) for state in SITE_STATES],
    )
    yield _by("site", "site_online", "1 if a site is connected", _ones(known))
    yield _by(
        "site",
        "site_seconds_since_heard",
        "Seconds since a site's last sign of life, right to a minute",
        {site: ago for site, ago in whole["heard"].items() if ago is not None},
    )
    yield from _of_runs(whole["runs"])
    yield _by("folder", "disk_free_bytes", "Free bytes on the disk of a folder", _free(home, whole))


def _of_runs(runs: list[Overview]) -> Iterator[Metric]:
    states = Counter(run["state"] for run in runs)
    yield Metric(
        "runs",
        "Number of runs by state",
        [Sample({"state": state}, states[state]) for state in get_args(State)],
    )
    by_name = {run["out"]: run for run in runs}
    yield Metric(
        "run_state",
        "1 for the state that a run is in",
        [Sample({"run": name, "state": run["state"]}, 1) for name, run in by_name.items()],
    )
    for key, text in (
        ("round", "Rounds that a run has done"),
        ("rounds", "Rounds of a run in all"),
    ):
        found = {n: run[key] for n, run in by_name.items() if run[key] is not None}
        yield _by("run", f"run_{key}", text, found)
    now, last = time.time(), {n: run["told"] for n, run in by_name.items()}
    since = {n: now - event for n, event in last.items() if event is not None}
    yield _by("run", "run_seconds_since_event", "Seconds since a run's last event", since)
    failed = [run for run in runs if run["state"] == "failed"][-1:]
    yield Metric(
        "last_error_info",
        "The reason of the failed run that was asked for last",
        [Sample({"run": run["out"], "reason": run["reason"]}, 1) for run in failed],
    )


def _free(home: Home, whole: Overview) -> dict[str, float]:
    base = home.path.parent
    folders = {str(home.file.state), *(str(Path(run["out"]).parent) for run in whole["runs"])}
    return {
        folder: shutil.disk_usage(base / folder).free
        for folder in sorted(folders)
        if (base / folder).is_dir()
    }


def _ones(states: dict[str, str]) -> dict[str, float]:
    return {site: state == "online" for site, state in states.items()}


def _by(label: str, name: str, text: str, values: dict[str, float]) -> Metric:
    return Metric(name, text, [Sample({label: key}, value) for key, value in values.items()])


def _plain(name: str, text: str, value: float) -> Metric:
    return Metric(name, text, [Sample({}, value)])


def _text(metric: Metric) -> str:
    name = f"fedmama_{metric.name}"
    lines = [f"# HELP {name} {metric.help}", f"# TYPE {name} gauge"]
    for sample in metric.samples:
        labels = ",".join(f'{key}="{_escaped(value)}"' for key, value in sample.labels.items())
        value = f"{float(sample.value):.15g}"
        lines.append(f"{name}{{{labels}}} {value}" if labels else f"{name} {value}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
