"""A round without training: random numbers of the model's size go to every site, and of an update's size come back."""

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
from mama.exchange.coding import encode
from mama.exchange.protocol import Answer, Task
from mama.printable import printable
from mama.sealed import read_sealed, write_sealed
from server.folder import RunFolder
from server.post import Post
from server.signers import Signers

REHEARSAL = "rehearsal.json"


@dataclass(frozen=True)
class SiteRehearsal:
    """One site's exchange: bytes, seconds from sending to having the answer, and what the site says of itself."""

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
    """What was found: sites by name, the problems of others, and the exchange's seconds for all of them at once.

    `server_mib` is by how much the server's peak memory rose.
    """

    sites: dict[str, SiteRehearsal]
    problems: dict[str, str]
    seconds: float
    server_mib: int
    rounds: int

    @property
    def run_hours(self) -> float:
        """Hours that a whole run's rounds spend on the way, beside local training and evaluation."""
        return self.seconds * self.rounds / 3600

    def lines(self) -> list[str]:
        """For a person."""
        lines = [
            f"{name}: {one.bytes_down / 1e6:.1f} MB down, {one.bytes_up / 1e6:.1f} MB up, "
            f"{one.seconds:.1f} s, of it {one.site_seconds:.1f} s at the site: {one.mb_s:.1f} MB/s; "
            f"peak memory {one.site_peak_mib} MiB"
            for name, one in sorted(self.sites.items())
        ]
        lines += [f"{name}: {problem}" for name, problem in sorted(self.problems.items())]
        return [
            *lines,
            f"a round: {self.seconds:.1f} s on the way beside training; "
            f"{self.rounds} rounds: {_long(self.run_hours)}",
            f"server: {self.server_mib} MiB more at its peak",
        ]

    @classmethod
    def read(cls, path: Path) -> "RehearsalReport":
        """What `rehearse_run` wrote.

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
        """As JSON values."""
        mb_s = {name: one.mb_s for name, one in self.sites.items()}
        return asdict(self) | {"run_hours": self.run_hours, "mb_s": mb_s}


def rehearse_run(grid: Grid, folder: RunFolder, signers: Signers) -> None:
    """Rehearse the run of a folder before it begins; what came of it is there in rehearsal.json."""
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
    """Exchange random tensors once with every node that is connected; nobody trains and no state is kept.

    Args:
        parameters: how many values are trained.
        run: a name for the messages.
        signers: whose answers count.

    Raises:
        QuorumError: no site answered as asked.
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
    post, wait_s = Post(grid, signers, parameters), experiment.federation.deadline_s
    begin, last = time.monotonic(), 0.0
    sites: dict[str, SiteRehearsal] = {}
    problems: dict[str, str] = {}
    waiting: dict[str, str] = {}
    for node in sorted(post.nodes()):
        if name := post.push(node, task, payload, wait_s):
            waiting[name] = f"node {node}"
    while waiting and time.monotonic() < begin + wait_s:
        arrived = [(name, reply) for name in waiting for reply in post.pull(name, task)]
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


def _long(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _problem(answer: Answer | None, problem: str) -> str:
    if answer is None:
        return printable(problem)
    return "answer holds nothing" if answer.status == "ok" else answer.status.sentence


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
