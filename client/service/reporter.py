"""Automatic site report on each run that has ended, written by a separate program.

The guard starts the program while no task runs and kills it when one arrives; it is started again
later. A run whose report is due has a marker file in its folder, which survives a restart of the
service. Started as a program by the guard:

python -I -m client.service.reporter SITE.yaml RUN
"""

import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from client.service.installed import require_installed_code
from client.site.config import SiteFile, load_site
from mama.errors import MamaError
from mama.system.files import write_bytes
from mama.system.processes import die_with_parent, importing

logger = logging.getLogger("fedmama.guard")
PAGE, DUE = "site_report.html", "report_due"
# Reports are started after this time without a task: the site is between two runs, or waits for
# slower sites.
QUIET_S = 30.0


class Reporter:
    """Starts the report programs that are due, one at a time.

    All calls must come from one thread, which outlives the programs.

    Args:
        site_file: the site file.
        make_room: frees the memory of the caller's model before a program starts.
    """

    def __init__(self, site_file: Path, make_room: Callable[[], None] = lambda: None):
        self._site_file, self._make_room = site_file, make_room
        self._program: subprocess.Popen[bytes] | None = None
        self._folder = Path()
        self._quiet_until = float("-inf")

    def add(self, run: str) -> None:
        """Mark the report of a run that has ended as due; errors are logged."""
        try:
            write_bytes(load_site(self._site_file).run_folder(run) / DUE, b"")
        except (MamaError, OSError) as error:
            logger.error("run %s: no report is written: %s", run, error)

    def go_on(self) -> None:
        """Handle a program that ended, and start the next; called regularly while no task runs."""
        if self._program and (code := self._program.poll()) is not None:
            self._ended(code)
        if self._program or time.monotonic() < self._quiet_until:
            return
        self.wait()
        try:
            site = load_site(self._site_file)
            renew(site)
            due = sorted(site.state.glob(f"runs/*/{DUE}"), key=_marked)
            if due:
                self._start(due[0].parent)
        except (MamaError, OSError) as error:
            logger.error("no report is written: %s", error)

    def wait(self) -> None:
        """Start nothing for QUIET_S seconds, since the next task may need the same model."""
        self._quiet_until = time.monotonic() + QUIET_S

    def stop(self) -> None:
        """Kill a running program; its report remains due."""
        if self._program:
            self._program.kill()
            self._program.wait()
            self._program = None
            _clear(self._folder)

    def _start(self, folder: Path) -> None:
        _clear(folder)
        self._make_room()
        self._folder = folder
        self._program = subprocess.Popen(
            command(self._site_file, folder.name), stdin=subprocess.DEVNULL, preexec_fn=_begin
        )

    def _ended(self, code: int) -> None:
        self._program = None
        # No retry: a failure lasts until a person fixes the cause.
        (self._folder / DUE).unlink(missing_ok=True)
        self._quiet_until = float("-inf")
        run, page = self._folder.name, self._folder / PAGE
        if code == 0:
            logger.info("run %s: the site's report is %s", run, page)
        else:
            _clear(self._folder)
            logger.error(
                "run %s: the site's report was not written (code %d); see the lines above. "
                "`mama-site report` writes it by hand",
                run,
                code,
            )


def _marked(due: Path) -> tuple[float, Path]:
    """Return a key that sorts by the runs' ends, so that the last run's report is the newest."""
    return due.stat().st_mtime, due


def command(site_file: Path, run: str) -> list[str]:
    """Return the command line of the program that writes one report."""
    return [sys.executable, "-I", "-m", "client.service.reporter", str(site_file), run]


def newest_report(state: Path) -> Path | None:
    """Return the newest report below a site's state folder."""
    found = [(path.stat().st_mtime, path) for path in state.glob(f"runs/*/{PAGE}")]
    return max(found)[1] if found else None


def renew(site: SiteFile) -> None:
    """Remove reports older than the list of withdrawn patients, since they may show one.

    They are due again if the run's model is still kept.
    """
    listed = site.data.withdrawn
    if listed is None or not listed.exists():
        return
    changed = listed.stat().st_mtime
    for page in site.state.glob(f"runs/*/{PAGE}"):
        if page.stat().st_mtime < changed:
            if (page.parent / "final").is_dir():
                write_bytes(page.parent / DUE, b"")
            page.unlink()


def main(site_file: Path, run: str) -> None:
    """Write one run's report into the run's folder, with the start of the program as its time."""
    with importing():  # late, because the rest of this module does not need it
        import torch

        from client.report.page import write_site_report

    require_installed_code()
    begin, site = time.time(), load_site(site_file)
    if site.threads is not None:
        torch.set_num_threads(site.threads)
    folder = site.run_folder(run)
    page = write_site_report(site, folder, folder / PAGE)
    # The starting time, so that `renew` detects withdrawals since then.
    os.utime(page, (begin, begin))


def _begin() -> None:
    """Lower the new process's priority and end it with the guard."""
    os.nice(10)
    die_with_parent()


def _clear(folder: Path) -> None:
    """Remove partial pages of programs that were killed."""
    for torn in folder.glob(f".{PAGE}.*"):
        with suppress(OSError):
            torn.unlink()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
    try:
        main(Path(sys.argv[1]), sys.argv[2])
    except MamaError as error:
        sys.exit(f"error: {error}")
