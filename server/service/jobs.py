"""Queue of requested runs, one file each, independent of the requesting command.

The service does the runs in turn, and restarts a ServerApp until its run is complete.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from mama.errors import ConfigError, FilesError, MamaError, ModelError, QuorumError
from server.federation.home import Home
from server.federation.roster import read_roster
from server.round.rehearsal import REHEARSAL
from server.run.events import Finished, Stopped
from server.run.folder import RunFolder
from server.run.history import replay
from server.service.control import Control
from server.service.finish import finish
from server.service.job import Job, Kind, place_of, read_job, read_jobs, write_job

# A ServerApp that dies so often without a further round in between is not started again.
MOST_FUTILE = 5
PAUSE_S = 2.0
# A ServerApp whose process is gone so long is given up; Flower itself notices after 45 s.
GONE_S = 4.0
ENDED = ("finished", "failed", "stopped")


class JobFile:
    """One job on disk."""

    def __init__(self, home: Home, out: Path):
        self.out, self._home = out.resolve(), home
        place = str(place_of(home, self.out))
        name = f"{self.out.name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
        self.path = home.jobs / f"{name}.json"
        self.stop = home.jobs / f"{name}.stop"
        # Exists from the end of a run until the federation's command for it has ended.
        self.unannounced = home.jobs / f"{name}.unannounced"

    def read(self) -> Job | None:
        """Read the job, None if it was never requested."""
        return read_job(self._home, self.path)

    def write(self, job: Job) -> None:
        """Keep the job."""
        write_job(self._home, self.path, job)

    def ask(self, kind: Kind = "run") -> Job:
        """Request this run or its rehearsal; one that is queued or running stays so.

        Raises:
            ConfigError: the other of the two is queued or running.
        """
        job = self.read()
        if job is None or job.state not in ("queued", "running"):
            self.stop.unlink(missing_ok=True)
            if kind == "rehearsal":
                (self.out / REHEARSAL).unlink(missing_ok=True)
            job = Job(out=self.out, asked=time.time(), kind=kind)
            self.write(job)
        if job.kind != kind:
            raise ConfigError(
                f"its {job.kind} is at work",
                where=str(self.out),
                fix="Wait, or use `mama-server stop`",
            )
        return job

    def ask_to_stop(self) -> None:
        """Ask the service to end this run.

        Raises:
            ConfigError: it is not at work.
        """
        job = self.read()
        if job is None or job.state not in ("queued", "running"):
            raise ConfigError(
                "is no run at work", where=str(self.out), fix="`mama-server status` tells how it is"
            )
        self.stop.touch()


class JobRunner:
    """Does the jobs, a step at a time.

    Args:
        at_work: whether a process of a ServerApp is running on this machine.
        on_end: called with each job that has finished, failed or was stopped, after that is on the
        disk.
    """

    def __init__(
        self,
        home: Home,
        control: Control,
        at_work: Callable[[], bool],
        on_end: Callable[[Job], None] = lambda job: None,
    ):
        self.home, self.control, self._at_work, self._on_end = home, control, at_work, on_end
        self._not_before = 0.0
        self._started = False
        # The run whose ServerApp was last seen running, and the time.
        self._seen: tuple[int | None, float] = (None, 0.0)

    def step(self) -> None:
        """Supervise the running job, or start the one requested first.

        Raises:
            ServiceError: the service does not answer; the next step tries again.
        """
        jobs = read_jobs(self.home)
        if not self._started:
            self._started = True
            for job in jobs:
                # The service died before the command had ended.
                if job.state in ENDED and JobFile(self.home, job.out).unannounced.exists():
                    self._on_end(job)
        for job in jobs:
            if job.state == "queued" and JobFile(self.home, job.out).stop.exists():
                self._look_after(JobFile(self.home, job.out), job)
                return
        at_work = [job for job in jobs if job.state == "running"]
        queued = [job for job in jobs if job.state == "queued"]
        for job in [*at_work, *queued][:1]:
            file = JobFile(self.home, job.out)
            try:
                self._look_after(file, job)
            except (ConfigError, ModelError, FileNotFoundError) as error:
                # Its folder is gone or damaged; the runs after it must not wait for it.
                self._keep(file, _failed(job, error))

    def _look_after(self, file: JobFile, job: Job) -> None:
        if file.stop.exists():
            if job.flower_run is not None and not self.control.run_ended(job.flower_run):
                self.control.stop_run(job.flower_run)
            if job.kind == "run" and job.out.is_dir():
                RunFolder(job.out).log(Stopped(reason="stopped on request"))
            stopped = {"state": "stopped", "reason": "stopped on request"}
            self._keep(file, job.model_copy(update=stopped))
        elif job.flower_run is None:
            # Never two ServerApps in one folder: one that was stopped may still be on its way out.
            if time.monotonic() >= self._not_before and not self._at_work():
                self._keep(file, self._start(job))
        elif self.control.run_ended(job.flower_run):
            self._keep(file, self._ended(job))
        elif self._died(job.flower_run):
            self.control.stop_run(job.flower_run)

    def _keep(self, file: JobFile, job: Job) -> None:
        if job.state in ENDED:
            file.unannounced.touch()
        file.write(job)
        if job.state in ENDED:
            self._on_end(job)

    def _over(self, folder: RunFolder, last: Stopped | Finished) -> dict[str, object]:
        try:
            # Read anew, for base models are added while the service runs.
            finish(folder, Home(self.home.path).models, complete=isinstance(last, Finished))
        except MamaError as error:
            return {
                "state": "failed",
                "reason": f"the run is over, but: {error}",
                "exit_code": error.exit_code,
            }
        if isinstance(last, Finished):
            return {"state": "finished"}
        code = last.exit_code or QuorumError.exit_code
        return {"state": "failed", "reason": last.reason, "exit_code": code}

    def _died(self, run: int) -> bool:
        now = time.monotonic()
        if self._at_work():
            self._seen = (run, now)
        return self._seen[0] == run and now - self._seen[1] > GONE_S

    def _start(self, job: Job) -> Job:
        if not read_roster(self.home).active:
            return job.model_copy(
                update={"state": "failed", "reason": "no site is enrolled; use `mama-server enrol`"}
            )
        events = len(RunFolder(job.out).events())  # before the ServerApp can add to them
        started = {
            "state": "running",
            "events_before": events,
            "flower_run": self.control.start_run(),
        }
        return job.model_copy(update=started)

    def _ended(self, job: Job) -> Job:
        """Return the job after its ServerApp ended, by the events in the run's folder."""
        folder = RunFolder(job.out)
        if job.kind == "rehearsal" and (job.out / REHEARSAL).exists():
            return job.model_copy(update={"state": "finished"})
        last = replay(folder.events()[job.events_before :]).ending
        if job.kind == "run" and last is not None:
            return job.model_copy(update=self._over(folder, last))
        reached = folder.latest().round
        futile = job.futile + 1 if reached == job.round else 1
        self._not_before = time.monotonic() + PAUSE_S * futile
        changed: dict[str, object] = {"flower_run": None, "round": reached, "futile": futile}
        if futile >= MOST_FUTILE:
            changed |= {
                "state": "failed",
                "reason": f"its ServerApp ended {futile} times in round {reached + 1}; "
                f"read {self.home.log}",
            }
        return job.model_copy(update=changed)


def _failed(job: Job, error: Exception) -> Job:
    code = error.exit_code if isinstance(error, MamaError) else FilesError.exit_code
    return job.model_copy(update={"state": "failed", "reason": str(error), "exit_code": code})


def ahead(home: Home, file: JobFile) -> list[Path]:
    """Return the folders of the runs ahead of a queued one; none if it is not in the queue."""
    own = file.read()
    if own is None or own.state != "queued":
        return []
    jobs = [job for job in read_jobs(home) if job.out != own.out]
    running = [job.out for job in jobs if job.state == "running"]
    return running + [job.out for job in jobs if job.state == "queued" and job.asked < own.asked]
