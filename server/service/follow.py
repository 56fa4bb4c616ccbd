"""Submission of a run to the service, and its progress; the run does not need the follower."""

import time
from collections.abc import Callable
from pathlib import Path

from mama.config import Experiment
from mama.config.earlier import earlier_model
from mama.config.load import load
from mama.config.output_folder import refuse_another
from mama.errors import MamaError, PrivacyError, QuorumError, ServiceError, StorageError
from mama.privacy.plan import require_possible
from mama.system.formats import counted
from mama.system.logs import printable
from server.federation.home import Home
from server.run.events import (
    Event,
    Finished,
    Problem,
    RoundDone,
    SiteLeft,
    SiteRevoked,
    SitesKnown,
    Start,
    Stopped,
    Waiting,
)
from server.run.folder import RunFolder
from server.run.global_model import initial_model
from server.service.daemon import is_running, require_running
from server.service.job import Job, Kind
from server.service.jobs import JobFile

LOOK_S = 0.5
# By exit code, the errors that end a run as they are; any other end is the service's.
ENDS = {kind.exit_code: kind for kind in (QuorumError, PrivacyError, StorageError)}
# How long the service may be away, while it is started again.
ABSENCE_S = 30.0


def prepare(home: Home, config: Path, out: Path) -> RunFolder:
    """Return the run's folder; create it with the initial model if missing.

    Raises:
        MamaError: the experiment or a base model is not what it should be, or the folder holds
        another run.
        ServiceError: the folder is new and the service does not run.
    """
    # Where an earlier model lies is looked up again by the program that makes the first one.
    start, _ = earlier_model(config)
    experiment = load(Experiment, config, start, without=["simulation"])
    folder = RunFolder(out)
    if folder.checkpoints():
        refuse_another(folder.path / "experiment.yaml", experiment, "another experiment")
        return folder
    require_possible(experiment)
    require_running(home)
    arrays, base = initial_model(config, home.models)
    return RunFolder.create(out, experiment, arrays, base)


def submit(home: Home, out: Path, kind: Kind = "run") -> JobFile:
    """Ask the service to do the run in a folder, or to go on with it, or to rehearse it.

    Raises:
        ConfigError: the other of the two is at work.
        ServiceError: the service does not run.
    """
    require_running(home)
    job = JobFile(home, out)
    job.ask(kind)
    return job


def follow(home: Home, file: JobFile, tell: Callable[[Event], None]) -> Job:
    """Pass every event from now on to `tell` until the run ends; return the ended job.

    Raises:
        QuorumError: the run ended for lack of sites.
        PrivacyError: too few sites' budgets allowed its rounds.
        StorageError: the coordinator's disk is full.
        ServiceError: the service has ended, or its ServerApp does again and again.
    """
    folder = RunFolder(file.out)
    seen, missing = len(folder.events()), 0.0
    while True:
        job = file.read()
        if job is None:
            raise ServiceError(
                "the service no longer knows of this run",
                where=str(file.out),
                fix="Its job's file was damaged or removed; the same command asks for it again",
            )
        events = folder.events()
        for event in events[seen:]:
            tell(event)
        seen = len(events)
        if job.state in ("finished", "stopped"):
            return job
        if job.state == "failed":
            raise _end_of(job)
        missing = 0.0 if is_running(home) else missing + LOOK_S
        if missing > ABSENCE_S:
            require_running(home)
        time.sleep(LOOK_S)


def _end_of(job: Job) -> MamaError:
    kind = ENDS.get(job.exit_code, ServiceError)
    place = str(job.out)
    return kind(job.reason, where="" if job.reason.startswith(place) else place)


def line_of(event: Event) -> str | None:
    """Return one line for a person, None for an event that is not worth one."""
    match event:
        case Start(round=0):
            return f"starts: {counted(event.rounds, 'round')}"
        case Start():
            return f"continues: round {event.round} of {event.rounds} is done"
        case SitesKnown():
            return f"sites: {', '.join(event.sites)}"
        case RoundDone():
            loss = event.terms.get("loss")
            shown = "" if loss is None else f"  loss {loss:.3f}"
            return f"round {event.round:>3}  {len(event.sites)} sites  {event.seconds:.1f} s{shown}"
        case Waiting():
            here, missing = len(event.here), ", ".join(event.missing)
            return (
                f"round {event.round}: waiting for a quorum; {here} sites connected, "
                f"missing: {missing}"
            )
        case SiteLeft():
            return f"round {event.round}, {event.site}: disconnected"
        case SiteRevoked():
            return f"round {event.round}, {event.site}: revoked; it takes part no more"
        case Problem():
            return f"round {event.round}, {event.site}: {printable(event.problem)}"
        case Finished():
            return "finished"
        case Stopped():
            return f"stopped: {event.reason}"
        case _:
            return None
