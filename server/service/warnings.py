"""Warnings about a run: imminent causes of failure, and sites that have dropped out."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from mama.errors import ConfigError, IntegrityError, ModelError
from mama.system.formats import size
from server.federation.certificates import WARNING_DAYS, days_left
from server.federation.home import Home
from server.federation.roster import read_roster
from server.report.status import Status, status
from server.run.events import RoundDone
from server.run.folder import RunFolder
from server.run.history import RunHistory
from server.run.log_heads import losses
from server.service.daemon import is_running
from server.service.jobs import JobFile

# A site that misses so many rounds in a row has more than a bad moment.
MISSED = 3
# A checkpoint is written beside the one before; on a disk with room for fewer than so many the next
# may fail.
ROOM = 2


def warnings(run: Path, whole: Status, home: Home | None) -> list[str]:
    """Return the warnings about a run, one line each.

    Args:
        run: its folder.
        whole: its status.
        home: its federation; None if there is none on this machine.

    Raises:
        MamaError: the federation's files are damaged.
    """
    found = _of_logs(RunFolder(run))
    if home and home.certificate.exists():
        found += _of_federation(run, whole, home)
    if whole["state"] == "finished":
        return found
    folder = RunFolder(run)
    return [*found, *_of_disk(folder), *_of_sites(folder.history(), whole)]


def warnings_at_start(run: Path, home: Home) -> list[str]:
    """Return the warnings at the request of a run, which may not have begun.

    Raises:
        MamaError: the federation's files are damaged.
    """
    try:
        whole = status(run)
    except (ConfigError, IntegrityError):
        whole = {"state": "queued", "round": 0, "sites": {}}
    return warnings(run, whole, home)


def _of_federation(run: Path, whole: Status, home: Home) -> Iterator[str]:
    left = days_left(home.certificate)
    if left < WARNING_DAYS:
        when = f"ends in {left:.0f} days" if left > 0 else "has expired"
        yield f"the server's certificate {when}; run `mama-server renew`"
    job = JobFile(home, run).read()
    if job is None or job.state not in ("queued", "running"):
        return
    if not is_running(home):
        yield "the service is not running; start it with `mama-server start`"
    if not whole["round"]:
        return  # they may be about to come
    for member in read_roster(home).active:
        if member.site not in whole["sites"]:
            yield f"{member.site}: enrolled, but never there in this run"


def _of_logs(folder: RunFolder) -> list[str]:
    if not folder.checkpoints():
        return []
    try:
        return [str(loss) for loss in losses(folder.path, folder.state().heads)]
    except ModelError as error:
        return [str(error)]


def _of_disk(folder: RunFolder) -> Iterator[str]:
    sizes = [sum(file.stat().st_size for file in path.iterdir()) for path in folder.checkpoints()]
    free = shutil.disk_usage(folder.path).free
    if sizes and free < ROOM * max(sizes):
        yield f"the disk has {size(free)} left, a checkpoint takes {size(max(sizes))}"


def _of_sites(history: RunHistory, whole: Status) -> Iterator[str]:
    rounds = [history.rounds[number] for number in sorted(history.rounds)]
    for site, one in whole["sites"].items():
        missed = _missed(site, rounds)
        if one["state"] == "paused":
            yield f"{site}: paused after {history.sites[site].failures} failures in a row"
        elif missed >= MISSED and one["state"] != "revoked":
            yield f"{site}: missing in the last {missed} rounds that counted on it"


def _missed(site: str, rounds: list[RoundDone]) -> int:
    """Count the last rounds in a row that expected a site and got no update from it."""
    count = 0
    for event in reversed(rounds):
        if site in event.sites:
            break
        count += site in event.missing
    return count
