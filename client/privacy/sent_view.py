"""Views of the record of sent answers: a table of answers, and a summary by run."""

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mama.system.journal import Entry, last_tensors


def table(entries: Iterable[Entry]) -> Table:
    """Return a table with a row per answer, for a terminal 80 columns wide."""
    made = Table(title="what this hospital sent (UTC)", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in ("time", "run", "round", "kind", "answer", "bytes", "sha256"):
        right = name in ("round", "bytes")
        made.add_column(name, justify="right" if right else "left", overflow="fold")
    for one in entries:
        when = one["time"][:16].replace("T", " ")
        size, digest = (str(one["bytes"]), one["sha256"][:8]) if one["bytes"] else ("-", "-")
        made.add_row(when, one["run"], str(one["round"]), one["kind"], one["status"], size, digest)
    return made


def figure_lines(entries: Iterable[Entry]) -> list[str]:
    """Return a line per kind of answer with the figures that were sent beside its tensors."""
    named = sorted((e for e in entries if e["figures"]), key=_kind)
    return [
        f"{kind}: {', '.join(dict.fromkeys(name for e in same for name in e['figures']))}"
        for kind, same in groupby(named, key=_kind)
    ]


def last_line(site: str, entries: Iterable[Entry]) -> list[str]:
    """Return a line on the last tensors sent, if any; a rehearsal's random ones do not count."""
    tensors = [entry for entry in entries if entry["bytes"] and entry["kind"] != "rehearse"]
    return [last_tensors(site, entry) for entry in tensors[-1:]]


def by_run(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return a summary per run, in order of their first answers; sizes in bytes."""
    runs: dict[str, list[Entry]] = {}
    for entry in entries:
        runs.setdefault(entry["run"], []).append(entry)
    return [
        {
            "run": run,
            "first": sent[0]["time"][:16].replace("T", " "),
            "last": sent[-1]["time"][:16].replace("T", " "),
            "answers": len(sent),
            "refused": sum(e["status"] != "ok" for e in sent),
            "tensors": sum(e["bytes"] for e in sent),
            "figures": sum(e["header_bytes"] for e in sent),
        }
        for run, sent in runs.items()
    ]


def _kind(entry: Entry) -> str:
    return str(entry["kind"])
