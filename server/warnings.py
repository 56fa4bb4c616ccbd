"""What a coordinator must know of a run and cannot see in its table: what will stop it, and who has dropped out."""

import shutil
from collections.abc import Iterator
from pathlib import Path

from mama.errors import ConfigError, IntegrityError, ModelError
from server.certificates import WARNING_DAYS, days_left
from server.daemon import is_running
from server.federation import Home
from server.folder import Event, RunFolder
from server.heads import losses
from server.jobs import JobFile
from server.roster import read_roster
from server.standing import rounds_of
from server.status import Status, size_of, status

# A site that misses so many rounds in a row has more than a bad moment.
MISSED = 3
# A checkpoint is written beside the one before; on a disk with room for fewer than so many the next may fail.
ROOM = 2


def warnings(run: Path, whole: Status, home: Home | None) -> list[str]:
    """A line each.

    Args:
        whole: the run's status.
        home: the federation whose run it is; None where there is none on this machine.

    Raises:
        MamaError: the federation's files are damaged.
    """
    found = _of_logs(RunFolder(run))
    if home and home.certificate.exists():
        found += _of_federation(run, whole, home)
    if whole["state"] == "finished":
        return found
    folder = RunFolder(run)
    return [*found, *_of_disk(folder), *_of_sites(folder.events(), whole)]


def warnings_at_start(run: Path, home: Home) -> list[str]:
    """The warnings for whoever asks for a run, which may not have begun.

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
        yield f"the disk has {size_of(free)}B left, a checkpoint takes {size_of(max(sizes))}B"


def _of_sites(events: list[Event], whole: Status) -> Iterator[str]:
    paused = {e["site"]: e["failures"] for e in events if e["event"] == "paused"}
    rounds = rounds_of(events)
    for site, one in whole["sites"].items():
        missed = _missed(site, [rounds[number] for number in sorted(rounds)])
        if one["state"] == "paused":
            yield f"{site}: paused after {paused[site]} failures in a row"
        elif missed >= MISSED:
            yield f"{site}: missing in the last {missed} rounds that counted on it"


def _missed(site: str, rounds: list[Event]) -> int:
    """The rounds in a row, up to the last, that were meant to hear a site and did not."""
    count = 0
    for event in reversed(rounds):
        if site in event["sites"]:
            break
        count += site in event["missing"]
    return count
