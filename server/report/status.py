"""State of a run, read from its rounds.jsonl, during the run or after, from any process."""

import time
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from mama.errors import ConfigError, IntegrityError
from mama.system.formats import DASH, duration, figure, short_size
from mama.system.logs import printable
from server.report.statistics import differences, statistics_in, without_statistics
from server.run.events import RoundDone
from server.run.folder import RunFolder
from server.run.history import SiteState
from server.run.log_heads import EVENTS, losses

COLUMNS = ("rounds", "s", "up", "down", "norm", "cosine")

Status = dict[str, Any]


def status(run: Path) -> Status:
    """Return the state of a run and of each of its sites as JSON values.

    A site is offline, online, training, masking its update, evaluating, receiving, failed (at its
    last task), paused or revoked. Its seconds, norm and cosine are of its last update, its bytes of
    all rounds, its problem is the last. `heard` is the last contact of a disconnected site (Unix
    seconds). `statistics` are those of training data by site, `no_statistics` the reasons of sites
    without, `differences` sentences.

    Raises:
        ConfigError: there is no run in this folder.
        IntegrityError: there is one, but its rounds.jsonl is lost.
    """
    folder = RunFolder(run)
    history = folder.history()
    if history.start is None:
        lost = losses(run, folder.state().heads) if folder.checkpoints() else []
        for loss in [loss for loss in lost if loss.log == EVENTS]:
            raise IntegrityError(
                f"{loss}; the last checkpoint is of round {folder.state().round}",
                where=str(run),
                fix="The same `run` command goes on from there",
            )
        raise ConfigError("holds no run", where=str(run), fix="Give the folder of a run")
    found = statistics_in(history)
    mean, left = history.round_seconds, history.start.rounds - history.done
    return {
        "run": history.start.run,
        "state": history.state,
        "round": history.done,
        "rounds": history.start.rounds,
        "round_s": mean,
        "left_s": None if mean is None else mean * left,
        "told": history.last,
        "sites": {
            site: _of_site(site, state, history.rounds)
            for site, state in sorted(history.sites.items())
        },
        "statistics": {site: one.model_dump() for site, one in found.items()},
        "no_statistics": without_statistics(history),
        "differences": [str(one) for one in differences(found)],
    }


def table(whole: Status) -> Table:
    """Format a status for a terminal 80 columns wide."""
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
            figure(one["seconds"], 0),
            short_size(one["bytes_up"]),
            short_size(one["bytes_down"]),
            DASH if one["norm"] is None else f"{one['norm']:.2g}",
            figure(one["cosine"], 2),
        )
    return made


def _of_site(site: str, known: SiteState, rounds: dict[int, RoundDone]) -> Status:
    own = {number: event for number, event in sorted(rounds.items()) if site in event.sites}
    last = next(reversed(own.values()), None)
    return {
        "state": known.state,
        "rounds": len(own),
        "asked": len(known.asked),
        "last_round": max(own, default=None),
        "seconds": (last and last.sites[site]["seconds"]) or None,
        "norm": last and last.norms[site],
        "cosine": last and last.cosines[site],
        "bytes_up": sum(event.bytes_up[site] for event in own.values()),
        "bytes_down": sum(event.bytes_down[site] for event in own.values()),
        "problem": known.problem and printable(known.problem),
        "heard": known.heard,
    }


def _caption(whole: Status) -> str:
    lines = []
    if whole["state"] == "running" and whole["round_s"] is not None:
        left = duration(whole["left_s"])
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
