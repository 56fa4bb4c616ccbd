"""Files of a site's service, and the status that they describe."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from client.service.outcomes import Outcome, Outcomes
from client.service.reporter import newest_report
from client.site.config import CoordinatorConfig, SiteFile
from mama.errors import ConfigError
from mama.exchange.roster import Roster
from mama.system.files import private_folder
from mama.system.sealed import read_if_whole, write_sealed

# The node sends a heartbeat every 30 s.
FRESH_S = 90.0


class ServiceFolder:
    """The folder of one site's service, mode 0700."""

    def __init__(self, site: SiteFile):
        self.site = site
        self.path = site.state / "service"
        self.node = self.path / "node.json"
        self.guard = self.path / "guard.json"
        self.processes = self.path / "processes.json"
        self.secret = self.path / "executor.secret"
        self.unfinished = self.path / "unfinished"
        self.flower_home = self.path / "flower"
        self.log = self.path / "site.log"

    @property
    def coordinator(self) -> CoordinatorConfig:
        """The coordinator that the site works for.

        Raises:
            ConfigError: the site file names none.
        """
        if self.site.coordinator is None:
            raise ConfigError(
                "key 'coordinator' is missing", where=f"site {self.site.site}", fix="Add it"
            )
        return self.site.coordinator

    def make(self) -> None:
        """Make the folders."""
        private_folder(self.flower_home)
        self.path.chmod(0o700)


@dataclass(frozen=True)
class Status:
    """Status of a site.

    `serving` is True if the site can do tasks now; otherwise `reason` explains. `gpu` is None if no
    GPU is expected, `report` is the newest report's path, and `warnings` lists kinds of task that
    fail repeatedly.
    """

    site: str
    serving: bool
    reason: str
    registered: bool
    dataset: bool
    gpu: bool | None
    seconds_since_contact: float | None
    working_on: str | None
    last_task: dict[str, Any] | None
    report: str | None
    warnings: list[str]


def read_status(folder: ServiceFolder) -> Status:
    """Return the status from the records that node and guard last wrote."""
    node, guard = read_if_whole(folder.node), read_if_whole(folder.guard)
    success = node.get("success")
    since = None if success is None else max(0.0, time.time() - success)
    registered = bool(node.get("registered"))
    outcomes = Outcomes.of(guard)
    newest = outcomes.newest
    reasons = [
        "" if _alive(node) else _ended(folder, node),
        "" if registered else _not_connected(node),
        "" if _in_contact(node, since) else f"no contact: {node.get('reason') or 'it is silent'}",
        "" if _alive(guard) else _no_guard(folder),
        "" if guard.get("dataset") else f"dataset: {guard.get('reason') or 'not loaded yet'}",
        f"GPU: {guard['gpu_reason']}" if guard.get("gpu_reason") else "",
        _blocked(outcomes.blocking),
    ]
    reason = next((text for text in reasons if text), "")
    return Status(
        site=folder.site.site,
        serving=not reason,
        reason=reason,
        registered=registered,
        dataset=bool(guard.get("dataset")),
        gpu=not guard.get("gpu_reason") if guard.get("gpu_expected") else None,
        seconds_since_contact=since,
        working_on=guard.get("working_on"),
        last_task=newest.model_dump() if newest else None,
        report=str(report) if (report := newest_report(folder.site.state)) else None,
        warnings=[
            f"{one.kind} failed {one.failures} times in a row: {one.sentence}"
            for one in outcomes.failing
        ],
    )


def contact(folder: ServiceFolder) -> str | None:
    """Return the reason for lost contact; empty if in contact, None if no node runs."""
    node = read_if_whole(folder.node)
    if not _alive(node):
        return None
    success = node.get("success")
    since = None if success is None else max(0.0, time.time() - success)
    if node.get("registered") and _in_contact(node, since):
        return ""
    return node.get("reason") or "it connects"


def format_status(status: Status, roster: Roster | None, waiting: int, *, as_json: bool) -> str:
    """Format a status as JSON or as lines of text.

    Args:
        status: the status.
        roster: the newest roster that the site received, if any.
        waiting: number of experiments that wait for a person's approval.
        as_json: format as JSON.
    """
    if as_json:
        shares = {member.site: member.share for member in roster.active} if roster else {}
        known = roster and {"version": roster.version, "shares": shares}
        return json.dumps(asdict(status) | {"roster": known, "waiting_for_approval": waiting})
    what = status.working_on or "waiting for tasks"
    lines = [f"{status.site}: {what if status.serving else status.reason}"]
    if status.last_task:
        last = Outcome.model_validate(status.last_task)
        ago = time.time() - last.time
        lines.append(
            f"last task: {last.kind} of round {last.round}, {ago:.0f} s ago: {last.sentence}"
        )
    if status.report:
        lines.append(f"newest report: {status.report}")
    lines += [f"WARN  {warning}" for warning in status.warnings]
    if waiting:
        lines.append(f"experiments that wait for approval: {waiting} (`mama-site approve`)")
    if roster is not None:
        lines.append(str(roster))
    return "\n".join(lines)


class Record:
    """One of these files, written at most every `pause` seconds unless there is news."""

    def __init__(self, path: Path, pause: float = 5.0):
        self.path, self.pause = path, pause
        self.values: dict[str, Any] = {}
        self._written = float("-inf")

    def put(self, *, news: bool, **values: Any) -> None:
        """Change values, and write the file if `news` or if the pause is over."""
        self.values |= values
        if news or time.monotonic() - self._written > self.pause:
            self._written = time.monotonic()
            with suppress(OSError):  # tasks continue on a full disk and report it themselves
                write_sealed(self.path, self.values)


def _ended(folder: ServiceFolder, node: dict[str, Any]) -> str:
    """Return the reason that no node runs: it was not started, or it exits after each start."""
    detail = f" ({node['reason']})" if node.get("reason") else ""
    # The supervisor records the process before the node has loaded its code and written its file.
    if _alive({"process": read_if_whole(folder.processes).get("node")}):
        return "the node is starting"
    if not _alive(read_if_whole(folder.processes)):
        return f"the service does not run{detail}; start it with `mama-site start`"
    return f"the node ended{detail}; `mama-site check` and the service's log give the reason"


def _not_connected(node: dict[str, Any]) -> str:
    if node.get("reason"):
        return f"not connected: {node['reason']}; `mama-site check` gives advice"
    return "it connects"


def _in_contact(node: dict[str, Any], since: float | None) -> bool:
    """Return whether the last call was recent and successful."""
    return since is not None and since < FRESH_S and not node.get("reason")


def _blocked(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return f"the last {outcome.kind} task failed: {outcome.sentence} See docs/errors.md"


def _no_guard(folder: ServiceFolder) -> str:
    """Return the reason that no guard runs: it is starting, or was not started."""
    starting = _alive({"process": read_if_whole(folder.processes).get("guard")})
    return "the guard is starting" if starting else "the guard does not run"


def _alive(record: dict[str, Any]) -> bool:
    process = record.get("process")
    return process is not None and Path(f"/proc/{process}").exists()
