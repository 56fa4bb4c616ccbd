"""One run that the federation was asked to do, as it lies on disk."""

import logging
import os
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from mama.config import Section
from mama.errors import IntegrityError
from mama.sealed import read_sealed

logger = logging.getLogger("fedmama.service")

Kind = Literal["run", "rehearsal"]
State = Literal["queued", "running", "finished", "failed", "stopped"]


class Job(Section):
    """A run's folder, whether it is to be rehearsed or done, and how far it is.

    `flower_run` is Flower's id of its ServerApp, `futile` its deaths since the last new round.
    """

    out: Path
    asked: float
    kind: Kind = "run"
    state: State = "queued"
    reason: str = ""
    flower_run: int | None = None
    round: int = 0
    futile: int = Field(0, ge=0)


def read_job(path: Path) -> Job | None:
    """A job; a file that is none is set aside, so that the others do not wait for it."""
    try:
        found = read_sealed(path)
        return None if found is None else Job.model_validate(found)
    except (IntegrityError, ValidationError) as error:
        aside = path.with_suffix(".damaged")
        logger.error("%s is no job (%s); set aside as %s", path, type(error).__name__, aside.name)
        os.replace(path, aside)
        return None


def job_of(folder: Path, flower_run: int) -> Job | None:
    """The job at work whose ServerApp has this id, None where the queue in `folder` has started no such run."""
    for path in sorted(folder.glob("*.json")):
        job = read_job(path)
        if job and job.state == "running" and job.flower_run == flower_run:
            return job
    return None
