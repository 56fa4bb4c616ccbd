"""The state of a run, read from its rounds.jsonl: it may be looked at from anywhere, while it runs or after."""

import time
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mama.errors import ConfigError, IntegrityError
from mama.exchange.protocol import WAVES
from mama.printable import printable
from server.folder import Event, RunFolder
from server.heads import EVENTS, losses
from server.standing import rounds_of, standing

# What a site was told to do, as its state while it does it.
AT_WORK = {"train": "training", "evaluate": "evaluating", "finish": "receiving"} | dict.fromkeys(
    WAVES, "masking"
)
COLUMNS = ("rounds", "s", "up", "down", "norm", "cosine")

Status = dict[str, Any]


def status(run: Path) -> Status:
    """What is known of a run and of each of its sites, as JSON values.

    A site is offline, online, training, masking its update, evaluating, receiving, failed (at what it was asked last)
    or paused. Its
    seconds, norm and cosine are of its last update, its bytes of all rounds, its problem is the last. `heard` is when a
    site that left was last heard of (Unix seconds).

    Raises:
        ConfigError: there is no run in this folder.
        IntegrityError: there is one, but its rounds.jsonl is lost.
    """
    folder = RunFolder(run)
    events = folder.events()
    if not any(event["event"] == "start" for event in events):
        lost = losses(run, folder.state().heads) if folder.checkpoints() else []
        for loss in [loss for loss in lost if loss.log == EVENTS]:
            raise IntegrityError(
                f"{loss}; the last checkpoint is of round {folder.state().round}",
                where=str(run),
                fix="The same `run` command goes on from there",
            )
        raise ConfigError("holds no run", where=str(run), fix="Give the folder of a run")
    rounds = rounds_of(events)
    sites = {site: _of_site(site, state, rounds) for site, state in _states(events).items()}
    for site, asked in _asked(standing(events)).items():
        sites[site]["asked"] = len(asked)
    for event in events:
        if event["event"] == "problem" and event["site"] in sites:
            sites[event["site"]]["problem"] = printable(event["problem"])
        if event["event"] == "left" and event["site"] in sites:
            sites[event["site"]]["heard"] = event["time"] - event["silent_s"]
        if event["event"] == "joined" and event["site"] in sites:
            sites[event["site"]]["heard"] = None
    last = [e for e in events if e["event"] in ("start", "finished", "stopped")][-1]
    start = [e for e in events if e["event"] == "start"][-1]
    done = max([start["round"], *rounds])
    mean = sum(e["seconds"] for e in rounds.values()) / len(rounds) if rounds else None
    return {
        "run": start["run"],
        "state": "running" if last is start else last["event"],
        "round": done,
        "rounds": start["rounds"],
        "round_s": mean,
        "left_s": None if mean is None else mean * (start["rounds"] - done),
        "told": events[-1]["time"],
        "sites": dict(sorted(sites.items())),
    }


def table(whole: Status) -> Table:
    """A status for a terminal 80 columns wide."""
    title = f"run {whole['run']}: {whole['state']}, round {whole['round']} of {whole['rounds']}"
    made = Table(
        title=title,
        caption=_caption(whole),
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    made.add_column("site", overflow="ellipsis", no_wrap=True, max_width=14)
    made.add_column("state", no_wrap=True)
    for name in COLUMNS:
        made.add_column(name, justify="right", no_wrap=True)
    for site, one in whole["sites"].items():
        made.add_row(
            site,
            one["state"],
            f"{one['rounds']}/{one['asked']}",
            _figure(one["seconds"], ".0f"),
            size_of(one["bytes_up"]),
            size_of(one["bytes_down"]),
            _figure(one["norm"], ".2g"),
            _figure(one["cosine"], ".2f"),
        )
    return made


def _states(events: list[Event]) -> dict[str, str]:
    states: dict[str, str] = {}
    for event in events:
        match event["event"]:
            case "start":
                states = dict.fromkeys(states, "offline")
            case "roster":
                # Whoever is not there was refused, or said why before this.
                states |= dict.fromkeys(event["sites"], "online")
            case "asked":
                states |= dict.fromkeys(event["sites"], AT_WORK[event["task"]])
            case "left":
                states[event["site"]] = "offline"
            case "problem" if event["site"] != "all sites":
                states[event["site"]] = "failed"
            case "paused":
                states[event["site"]] = "paused"
            case "joined" | "update" | "received":
                states[event["site"]] = "online"
            case "round":
                states |= dict.fromkeys(event["sites"], "online")
            case "evaluation":
                states |= {
                    site: "online" for site, state in states.items() if state == "evaluating"
                }
            case "finished" | "stopped":
                at_work = AT_WORK.values()
                states |= {site: "online" for site, state in states.items() if state in at_work}
    return states


def _asked(events: list[Event]) -> dict[str, set[int]]:
    asked: dict[str, set[int]] = {}
    for event in events:
        if event["event"] == "asked" and event["task"] == "train":
            for site in event["sites"]:
                asked.setdefault(site, set()).add(event["round"])
    return asked


def _of_site(site: str, state: str, rounds: dict[int, Event]) -> Status:
    own = {number: event for number, event in sorted(rounds.items()) if site in event["sites"]}
    last = next(reversed(own.values()), None)
    return {
        "state": state,
        "rounds": len(own),
        "asked": 0,
        "last_round": max(own, default=None),
        "seconds": last and last["sites"][site]["seconds"],
        "norm": last and last["norms"][site],
        "cosine": last and last["cosines"][site],
        "bytes_up": sum(event["bytes_up"][site] for event in own.values()),
        "bytes_down": sum(event["bytes_down"][site] for event in own.values()),
        "problem": None,
        "heard": None,
    }


def _caption(whole: Status) -> str:
    lines = []
    if whole["state"] == "running" and whole["round_s"] is not None:
        left = _duration(whole["left_s"])
        lines.append(f"{whole['round_s']:.0f} s a round, about {left} left")
    if whole["state"] == "running":
        lines += [
            f"{site}: last heard {time.time() - one['heard']:.0f} s ago"
            for site, one in whole["sites"].items()
            if one["heard"] is not None
        ]
    lines += [
        f"{site}: {one['problem']}"
        for site, one in whole["sites"].items()
        if one["problem"] and one["state"] in ("failed", "paused", "offline")
    ]
    return "\n".join(lines)


def size_of(number: float) -> str:
    """Bytes in the unit that fits: 412, 2.1M."""
    for unit in ("", "k", "M", "G"):
        if number < 999.5:
            return f"{number:.3g}{unit}"
        number /= 1000
    return f"{number:.0f}T"


def _duration(seconds: float) -> str:
    """Seconds below two minutes, minutes below two hours, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _figure(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)
