"""Rehearsal: a round without training.

Every site receives random numbers of the model's size and returns some of an update's size.
"""

import resource
import secrets
import time
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path

import numpy as np
from flwr.serverapp import Grid

from mama.config import Experiment
from mama.errors import IntegrityError, QuorumError
from mama.exchange.codecs.coding import encode
from mama.exchange.protocol import Answer, Task
from mama.system.formats import duration, size
from mama.system.logs import printable
from mama.system.sealed import read_sealed, write_sealed
from server.cohort.signers import Signers
from server.round.transport import Transport
from server.run.folder import RunFolder

REHEARSAL = "rehearsal.json"


@dataclass(frozen=True)
class SiteRehearsal:
    """Figures of one site's exchange; `seconds` run from sending the task to having the answer.

    `site_seconds` and `site_peak_mib` are the site's own figures.
    """

    bytes_down: int
    bytes_up: int
    seconds: float
    site_seconds: float
    site_peak_mib: int

    @property
    def mb_s(self) -> float:
        """Megabytes a second on the way, both ways together."""
        return (self.bytes_down + self.bytes_up) / 1e6 / max(self.seconds - self.site_seconds, 1e-9)


@dataclass(frozen=True)
class RehearsalReport:
    """Result of a rehearsal: figures by site, and problems of the other sites.

    `seconds` is the time of the whole exchange, `server_mib` the rise of the server's peak memory.
    """

    sites: dict[str, SiteRehearsal]
    problems: dict[str, str]
    seconds: float
    server_mib: int
    rounds: int

    @property
    def run_hours(self) -> float:
        """Hours of transfer in all rounds of a run, without local training and evaluation."""
        return self.seconds * self.rounds / 3600

    def lines(self) -> list[str]:
        """For a person."""
        lines = [
            f"{name}: {size(one.bytes_down)} down, {size(one.bytes_up)} up, "
            f"{one.seconds:.1f} s, of it {one.site_seconds:.1f} s at the site: "
            f"{one.mb_s:.1f} MB/s; "
            f"peak memory {one.site_peak_mib} MiB"
            for name, one in sorted(self.sites.items())
        ]
        lines += [f"{name}: {problem}" for name, problem in sorted(self.problems.items())]
        return [
            *lines,
            f"a round: {self.seconds:.1f} s on the way beside training; "
            f"{self.rounds} rounds: {duration(self.seconds * self.rounds)}",
            f"server: {self.server_mib} MiB more at its peak",
        ]

    @classmethod
    def read(cls, path: Path) -> "RehearsalReport":
        """Read the report written by `rehearse_run`.

        Raises:
            QuorumError: no site had answered.
            IntegrityError: the file is missing or damaged.
        """
        found = read_sealed(path, "Rehearse again")
        if found is None:
            raise IntegrityError("is gone", where=str(path), fix="Rehearse again")
        if "reason" in found:
            raise QuorumError(found["reason"])
        sites = {name: SiteRehearsal(**one) for name, one in found.pop("sites").items()}
        return cls(sites=sites, **found)

    def figures(self) -> dict[str, object]:
        """Return the report as JSON values."""
        mb_s = {name: one.mb_s for name, one in self.sites.items()}
        return asdict(self) | {"run_hours": self.run_hours, "mb_s": mb_s}


def rehearse_run(grid: Grid, folder: RunFolder, signers: Signers) -> None:
    """Rehearse the run of a folder before it begins; write the result to rehearsal.json."""
    checkpoint = folder.latest()
    parameters = sum(prod(shape) for shape in checkpoint.shapes.values())
    try:
        report = rehearse(grid, folder.experiment(), parameters, checkpoint.run, signers)
        found = asdict(report)
    except QuorumError as error:
        found = {"reason": str(error)}
    write_sealed(folder.path / REHEARSAL, found)


def rehearse(
    grid: Grid, experiment: Experiment, parameters: int, run: str, signers: Signers
) -> RehearsalReport:
    """Exchange random tensors once with every connected node, without training or state.

    Args:
        grid: to the nodes.
        experiment: sent with the task; its `deadline_s` bounds the wait.
        parameters: number of trained values.
        run: a name for the messages.
        signers: check of the answers' signatures.

    Raises:
        QuorumError: no site gave a valid answer.
    """
    before = _peak_mib()
    random = np.random.default_rng().standard_normal(parameters, np.float32)
    payload = encode({"rehearsal": random})
    task = Task(
        run=run,
        round=0,
        task="rehearse",
        kind="rehearse",
        experiment=experiment.canonical_json(),
        experiment_hash=experiment.hash(),
        nonce=secrets.token_hex(16),
    )
    transport, wait_s = Transport(grid, signers, parameters), experiment.participation.deadline_s
    begin, last = time.monotonic(), 0.0
    sites: dict[str, SiteRehearsal] = {}
    problems: dict[str, str] = {}
    waiting: dict[str, str] = {}
    for node in sorted(transport.nodes()):
        if name := transport.push(node, task, payload, wait_s):
            waiting[name] = f"node {node}"
    while waiting and time.monotonic() < begin + wait_s:
        arrived = [(name, reply) for name in waiting for reply in transport.pull(name, task)]
        for name, reply in arrived:
            place, last = waiting.pop(name, ""), time.monotonic() - begin
            if reply.answer is None or reply.answer.rehearsal is None:
                who = reply.answer.site if reply.answer else place
                problems[who] = _problem(reply.answer, reply.problem)
                continue
            sites[reply.answer.site] = SiteRehearsal(
                bytes_down=len(payload),
                bytes_up=reply.bytes_up,
                seconds=last,
                site_seconds=reply.answer.rehearsal.seconds,
                site_peak_mib=reply.answer.rehearsal.peak_mib,
            )
        if not arrived:
            time.sleep(0.1)
    problems |= dict.fromkeys(waiting.values(), "no answer before the deadline")
    if not sites:
        raise QuorumError(
            "no site answered", where="rehearsal", fix="; ".join(sorted(set(problems.values())))
        )
    rounds = experiment.federation.rounds
    return RehearsalReport(sites, problems, last, _peak_mib() - before, rounds)


def _problem(answer: Answer | None, problem: str) -> str:
    if answer is None:
        return printable(problem)
    return "answer holds nothing" if answer.status == "ok" else answer.status.sentence


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
