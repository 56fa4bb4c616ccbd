"""Requested run of a federation, as stored on disk."""

import logging
import os
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, ValidationError

from mama.config import Section
from mama.errors import IntegrityError, ServiceError
from mama.system.sealed import read_sealed, write_sealed
from server.federation.home import Home

logger = logging.getLogger("fedmama.service")

Kind = Literal["run", "rehearsal"]
State = Literal["queued", "running", "finished", "failed", "stopped"]


class Job(Section):
    """Queued run or rehearsal, and its progress.

    `flower_run` is Flower's id of its ServerApp, `futile` the number of its deaths since the last
    new round. `events_before` is the number of events in the run's folder when the ServerApp was
    started: an ending among them belongs to an earlier start. `exit_code` goes with the `reason`
    of a failure.

    On disk, an `out` below the federation file's folder is relative to it, so that the folder can
    be moved.
    """

    out: Path
    asked: float
    kind: Kind = "run"
    state: State = "queued"
    reason: str = ""
    flower_run: int | None = None
    round: int = 0
    futile: int = Field(0, ge=0)
    # A queue of an older version has the second name.
    events_before: int = Field(0, ge=0, validation_alias=AliasChoices("events_before", "told"))
    exit_code: int = ServiceError.exit_code


def place_of(home: Home, out: Path) -> Path:
    """Return a run's folder as the queue writes it."""
    base = home.path.parent
    return out.relative_to(base) if out.is_relative_to(base) else out


def write_job(home: Home, path: Path, job: Job) -> None:
    """Keep a job."""
    write_sealed(
        path, job.model_copy(update={"out": place_of(home, job.out)}).model_dump(mode="json")
    )


def read_job(home: Home, path: Path) -> Job | None:
    """Read a job; set an invalid file aside, so that it does not block the others."""
    try:
        found = read_sealed(path)
        if found is None:
            return None
        job = Job.model_validate(found)
        return job.model_copy(update={"out": home.path.parent / job.out})
    except (IntegrityError, ValidationError) as error:
        aside = path.with_suffix(".damaged")
        logger.error("%s is no job (%s); set aside as %s", path, type(error).__name__, aside.name)
        os.replace(path, aside)
        return None


def read_jobs(home: Home) -> list[Job]:
    """Read all jobs, in the order of their requests."""
    found = [job for path in sorted(home.jobs.glob("*.json")) if (job := read_job(home, path))]
    return sorted(found, key=lambda job: job.asked)


def job_of(home: Home, flower_run: int) -> Job | None:
    """Return the running job whose ServerApp has this id, None if the queue started no such run."""
    for job in read_jobs(home):
        if job.state == "running" and job.flower_run == flower_run:
            return job
    return None
