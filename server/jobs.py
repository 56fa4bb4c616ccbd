"""Runs that the federation was asked to do, one file each: whoever asked may go away and come back.

The service does them one after the other and starts a ServerApp again until its run is complete.
"""

import hashlib
import time
from collections.abc import Callable
from pathlib import Path

from mama.errors import ConfigError, FilesError, MamaError, ModelError, QuorumError
from server.control import Control
from server.federation import Home
from server.finish import finish
from server.folder import Event, RunFolder
from server.job import Job, Kind, place_of, read_job, read_jobs, write_job
from server.rehearsal import REHEARSAL
from server.roster import read_roster

# A ServerApp that dies so often without a further round in between is not started again.
MOST_FUTILE = 5
PAUSE_S = 2.0
# A ServerApp whose process is gone so long is given up; Flower itself notices after 45 s.
GONE_S = 4.0


def ending(events: list[Event]) -> Event | None:
    """The event that ended a run, well or not; None while it has not ended since its last start."""
    turns = [e for e in events if e["event"] in ("start", "finished", "stopped")]
    return turns[-1] if turns and turns[-1]["event"] != "start" else None


class JobFile:
    """One job on disk."""

    def __init__(self, home: Home, out: Path):
        self.out, self._home = out.resolve(), home
        place = str(place_of(home, self.out))
        name = f"{self.out.name}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"
        self.path = home.jobs / f"{name}.json"
        self.stop = home.jobs / f"{name}.stop"

    def read(self) -> Job | None:
        """The job, None where the service was never asked."""
        return read_job(self._home, self.path)

    def write(self, job: Job) -> None:
        """Keep the job."""
        write_job(self._home, self.path, job)

    def ask(self, kind: Kind = "run") -> Job:
        """Ask the service for this run or its rehearsal; what is queued or running already stays so.

        Raises:
            ConfigError: the other of the two is at work.
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
    """

    def __init__(self, home: Home, control: Control, at_work: Callable[[], bool]):
        self.home, self.control, self._at_work = home, control, at_work
        self._not_before = 0.0
        # The run whose ServerApp was seen at work, and when last.
        self._seen: tuple[int | None, float] = (None, 0.0)

    def step(self) -> None:
        """Look after the job at work, or start the one that was asked for first.

        Raises:
            ServiceError: the service does not answer; the next step tries again.
        """
        jobs = read_jobs(self.home)
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
                file.write(_failed(job, error))

    def _look_after(self, file: JobFile, job: Job) -> None:
        if file.stop.exists():
            if job.flower_run is not None and not self.control.run_ended(job.flower_run):
                self.control.stop_run(job.flower_run)
            if job.kind == "run" and job.out.is_dir():
                RunFolder(job.out).log({"event": "stopped", "reason": "stopped on request"})
            file.write(job.model_copy(update={"state": "stopped", "reason": "stopped on request"}))
        elif job.flower_run is None:
            # Never two ServerApps in one folder: one that was stopped may still be on its way out.
            if time.monotonic() >= self._not_before and not self._at_work():
                file.write(self._start(job))
        elif self.control.run_ended(job.flower_run):
            file.write(self._ended(job))
        elif self._died(job.flower_run):
            self.control.stop_run(job.flower_run)

    def _over(self, folder: RunFolder, last: Event) -> dict[str, object]:
        complete = last["event"] == "finished"
        try:
            finish(folder, self.home.models, complete=complete)
        except MamaError as error:
            return {
                "state": "failed",
                "reason": f"the run is over, but: {error}",
                "exit_code": error.exit_code,
            }
        if complete:
            return {"state": "finished"}
        code = last.get("exit_code", QuorumError.exit_code)
        return {"state": "failed", "reason": last["reason"], "exit_code": code}

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
        told = len(RunFolder(job.out).events())  # before the ServerApp can add to them
        started = {"state": "running", "told": told, "flower_run": self.control.start_run()}
        return job.model_copy(update=started)

    def _ended(self, job: Job) -> Job:
        """What the end of a ServerApp means: the run's folder says, Flower does not."""
        folder = RunFolder(job.out)
        if job.kind == "rehearsal" and (job.out / REHEARSAL).exists():
            return job.model_copy(update={"state": "finished"})
        last = ending(folder.events()[job.told :])
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
    """The folders of the runs that are done before a queued one; none where it is at work or was never asked for."""
    own = file.read()
    if own is None or own.state != "queued":
        return []
    jobs = [job for job in read_jobs(home) if job.out != own.out]
    running = [job.out for job in jobs if job.state == "running"]
    return running + [job.out for job in jobs if job.state == "queued" and job.asked < own.asked]
