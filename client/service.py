"""Where a site's service keeps its own files, and what they say of its state."""

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from client.outcomes import Outcome, Outcomes
from client.sitefile import CoordinatorConfig, SiteFile
from mama.errors import ConfigError
from mama.exchange.roster import Roster
from mama.files import private_folder
from mama.sealed import read_if_whole, write_sealed

# A heartbeat comes every half minute.
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
        """Whom the site works for.

        Raises:
            ConfigError: the site file does not say.
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
    """The state of a site: whether it can work now, and if not why; its last task, and tasks that keep failing."""

    site: str
    serving: bool
    reason: str
    registered: bool
    dataset: bool
    seconds_since_contact: float | None
    working_on: str | None
    last_task: dict[str, Any] | None
    warnings: list[str]


def read_status(folder: ServiceFolder) -> Status:
    """Put together what node and guard last wrote."""
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
        _blocked(outcomes.blocking),
    ]
    reason = next((text for text in reasons if text), "")
    return Status(
        site=folder.site.site,
        serving=not reason,
        reason=reason,
        registered=registered,
        dataset=bool(guard.get("dataset")),
        seconds_since_contact=since,
        working_on=guard.get("working_on"),
        last_task=newest.model_dump() if newest else None,
        warnings=[
            f"{one.kind} failed {one.failures} times in a row: {one.sentence}"
            for one in outcomes.failing
        ],
    )


def contact(folder: ServiceFolder) -> str | None:
    """The reason that the running node is out of contact; empty if it is in contact, None where no node runs."""
    node = read_if_whole(folder.node)
    if not _alive(node):
        return None
    success = node.get("success")
    since = None if success is None else max(0.0, time.time() - success)
    if node.get("registered") and _in_contact(node, since):
        return ""
    return node.get("reason") or "it connects"


def tell_status(status: Status, roster: Roster | None, waiting: int, *, as_json: bool) -> str:
    """A status, who takes part as far as the site knows, and how many experiments are `waiting` for a person, as JSON
    or as a line each."""
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
    lines += [f"WARN  {warning}" for warning in status.warnings]
    if waiting:
        lines.append(f"experiments that wait for approval: {waiting} (`mama-site approve`)")
    if roster is not None:
        lines.append(str(roster))
    return "\n".join(lines)


class Record:
    """One of these files: changed now and then, written at most every `pause` seconds unless something new happened."""

    def __init__(self, path: Path, pause: float = 5.0):
        self.path, self.pause = path, pause
        self.values: dict[str, Any] = {}
        self._written = float("-inf")

    def put(self, *, news: bool, **values: Any) -> None:
        """Change values."""
        self.values |= values
        if news or time.monotonic() - self._written > self.pause:
            self._written = time.monotonic()
            with suppress(OSError):  # work goes on on a full disk, and says so itself
                write_sealed(self.path, self.values)


def _ended(folder: ServiceFolder, node: dict[str, Any]) -> str:
    """Why there is no node: nobody started it, or it ends whenever it is started."""
    told = f" ({node['reason']})" if node.get("reason") else ""
    # The supervisor knows a node's process before it has loaded its code and written a line of its own.
    if _alive({"process": read_if_whole(folder.processes).get("node")}):
        return "the node is starting"
    if not _alive(read_if_whole(folder.processes)):
        return f"the service does not run{told}; start it with `mama-site start`"
    return f"the node ended{told}; `mama-site check` and the service's log say why"


def _not_connected(node: dict[str, Any]) -> str:
    if node.get("reason"):
        return f"not connected: {node['reason']}; `mama-site check` says what to do"
    return "it connects"


def _in_contact(node: dict[str, Any], since: float | None) -> bool:
    """Whether the last call succeeded, and lately."""
    return since is not None and since < FRESH_S and not node.get("reason")


def _blocked(outcome: Outcome | None) -> str:
    if outcome is None:
        return ""
    return f"the last {outcome.kind} task failed: {outcome.sentence} docs/errors.md says what to do"


def _no_guard(folder: ServiceFolder) -> str:
    """The supervisor knows a guard's process before it has loaded its code and written a line of its own."""
    starting = _alive({"process": read_if_whole(folder.processes).get("guard")})
    return "the guard is starting" if starting else "the guard does not run"


def _alive(record: dict[str, Any]) -> bool:
    process = record.get("process")
    return process is not None and Path(f"/proc/{process}").exists()
