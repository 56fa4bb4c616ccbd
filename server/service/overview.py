"""State of a federation: service, certificate, sites and requested runs."""

import time
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.table import Table

from mama.errors import MamaError, ServiceError
from mama.exchange.roster import Member
from mama.system.formats import DASH, duration
from mama.system.logs import printable
from server.federation.certificates import days_left
from server.federation.home import Home
from server.federation.roster import read_roster
from server.report.status import status
from server.service.control import Control, Node
from server.service.daemon import is_running
from server.service.job import Job, place_of, read_jobs

Overview = dict[str, Any]


def overview(home: Home) -> Overview:
    """Return the state of a federation as JSON values.

    A site is online, offline or revoked; unknown while the service does not run or does not answer.
    `heard` has the seconds since each site's last heartbeat, None if unknown.

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
        "heard": {member.site: _silence(member, nodes) for member in roster.active},
        "runs": [_of_job(home, job) for job in read_jobs(home)],
    }


def tables(whole: Overview) -> RenderableType:
    """Format an overview for a terminal 80 columns wide."""
    days = whole["certificate_days"]
    until = f"for another {days} days" if days >= 0 else "no longer; run `mama-server renew`"
    head = [
        f"federation {whole['federation']} at {whole['address']}",
        f"service: {whole['service']}",
        f"certificate: valid {until}",
    ]
    sites = [
        (site, state, _ago(whole["heard"].get(site))) for site, state in whole["sites"].items()
    ]
    return Group(*head, _table(("site", "state", "last heard"), sites), _runs(whole["runs"]))


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


def _state(member: Member, nodes: dict[str, Node] | None) -> str:
    if member.status == "revoked":
        return "revoked"
    if nodes is None:
        return "unknown"
    # Flower's "registered" is a node that never connected.
    node = nodes.get(member.public_key)
    return "online" if node is not None and node.status == "online" else "offline"


def _silence(member: Member, nodes: dict[str, Node] | None) -> float | None:
    node = (nodes or {}).get(member.public_key)
    if node is None or node.heard is None:
        return None
    return max(0.0, time.time() - node.heard)


def _ago(seconds: float | None) -> str:
    return DASH if seconds is None else f"{duration(seconds)} ago"


def _service(running: bool, nodes: dict[str, Node] | None) -> str:
    if not running:
        return "not running; start it with `mama-server start`"
    return "running" if nodes is not None else "running, and does not answer yet"


def _nodes(home: Home) -> dict[str, Node] | None:
    """Return the nodes by public key; None if the service does not answer."""
    try:
        with Control(home) as control:
            return {node.public_key: node for node in control.nodes()}
    except ServiceError:
        return None


def _of_job(home: Home, job: Job) -> Overview:
    try:
        run = status(job.out)
    except MamaError:
        run = {"round": 0, "rounds": None, "told": None}
    return {
        "out": str(place_of(home, job.out)),
        "kind": job.kind,
        "state": job.state,
        "round": run["round"],
        "rounds": run["rounds"],
        "told": run["told"],
        "reason": printable(job.reason),
    }
