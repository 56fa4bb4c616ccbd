"""The state of a federation, without a run: service, certificate, sites and the runs that it was asked for."""

from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from mama.errors import MamaError, ServiceError
from mama.exchange.roster import Member
from mama.printable import printable
from server.certificates import days_left
from server.control import Control
from server.daemon import is_running
from server.federation import Home
from server.job import Job, place_of, read_jobs
from server.roster import read_roster
from server.status import status

Overview = dict[str, Any]


def overview(home: Home) -> Overview:
    """The state of a federation, as JSON values.

    A site is online, offline or revoked; unknown while the service does not run or does not answer.

    Raises:
        MamaError: the federation is not provisioned, or its files are damaged.
    """
    roster = read_roster(home)
    running = is_running(home)
    nodes = _nodes(home) if running else None
    return {
        "federation": roster.federation,
        "address": home.file.address,
        "service": _service(running, nodes),
        "certificate_days": int(days_left(home.certificate)),
        "sites": {member.site: _state(member, nodes) for member in roster.members},
        "runs": [_of_job(home, job) for job in read_jobs(home)],
    }


def tables(whole: Overview) -> RenderableType:
    """An overview for a terminal 80 columns wide."""
    days = whole["certificate_days"]
    until = f"for another {days} days" if days >= 0 else "no longer; run `mama-server renew`"
    head = [
        f"federation {whole['federation']} at {whole['address']}",
        f"service: {whole['service']}",
        f"certificate: valid {until}",
    ]
    return Group(*head, _table(("site", "state"), whole["sites"].items()), _runs(whole["runs"]))


def _runs(runs: list[Overview]) -> RenderableType:
    if not runs:
        return "no run yet; `mama-server run EXPERIMENT --out FOLDER` begins one"
    rows = [
        (run["out"], run["state"], f"{run['round']}/{run['rounds'] or '?'}", run["reason"])
        for run in runs
    ]
    return _table(("run", "state", "round", "reason"), rows)


def _table(names: tuple[str, ...], rows: Any) -> Table:
    made = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for name in names:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*row)
    return made


def _state(member: Member, nodes: dict[str, str] | None) -> str:
    if member.status == "revoked":
        return "revoked"
    return "unknown" if nodes is None else nodes.get(member.public_key, "offline")


def _service(running: bool, nodes: dict[str, str] | None) -> str:
    if not running:
        return "not running; start it with `mama-server start`"
    return "running" if nodes is not None else "running, and does not answer yet"


def _nodes(home: Home) -> dict[str, str] | None:
    """The state of each node by its key; None where the service does not answer."""
    try:
        with Control(home) as control:
            found = {node.public_key: node.status for node in control.nodes()}
    except ServiceError:
        return None
    # Flower's "registered" is a node that was never here.
    return {key: state if state == "online" else "offline" for key, state in found.items()}


def _of_job(home: Home, job: Job) -> Overview:
    try:
        run = status(job.out)
    except MamaError:
        run = {"round": 0, "rounds": None}
    return {
        "out": str(place_of(home, job.out)),
        "kind": job.kind,
        "state": job.state,
        "round": run["round"],
        "rounds": run["rounds"],
        "reason": printable(job.reason),
    }
