"""The round loop: ask the roster, check and fold what comes back, step, checkpoint, evaluate."""

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from flwr.serverapp import Grid

from mama.errors import ProtocolError, QuorumError
from mama.evaluation.pooling import summary
from mama.exchange.metrics import EvaluationCounts, TrainingMetrics
from mama.exchange.protocol import Kind, Task
from mama.exchange.tensors import Arrays
from server.aggregate import ServerOptimiser, WeightedMean
from server.asking import Reply, ask
from server.audit import Audit
from server.checks import check_answer, check_update
from server.downlink import Downlink
from server.folder import Checkpoint, Event, RunFolder
from server.geometry import Sketch, cosines_to_mean, norm, sketch
from server.privacy import spent, statement

Listener = Callable[[Event], None]
# How long to wait for all expected sites to connect, in seconds.
GATHERING_S = 60.0


@dataclass
class Round:
    """One round's answers by site: updates with their metrics, and the seconds it took."""

    updates: dict[str, tuple[Arrays, TrainingMetrics]] = field(default_factory=dict)
    sketches: dict[str, Sketch] = field(default_factory=dict)
    norms: dict[str, float] = field(default_factory=dict)
    bytes_up: dict[str, int] = field(default_factory=dict)
    bytes_down: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0


class Federation:
    """One run over one roster of sites.

    Args:
        expected: sites to wait for at the start; fewer may do, if they are a quorum.
        at_once: how many sites work at the same time; 1 where they take turns in one process.
    """

    def __init__(
        self, grid: Grid, folder: RunFolder, listener: Listener, *, expected: int, at_once: int
    ):
        self.grid, self.folder, self.listener = grid, folder, listener
        self.experiment = folder.experiment()
        self.expected, self.at_once = expected, at_once
        self.checkpoint = folder.latest()
        self.downlink = Downlink(self.experiment.federation.exchange, self.checkpoint.arrays)
        self.audit = Audit(folder.path / "audit.jsonl", self.checkpoint.run)
        self.roster: dict[str, int] = {}
        self.private = self.experiment.privacy.mode != "none"
        self._ledgers = {site: said["head"] for site, said in spent(folder.events()).items()}
        self._canonical = self.experiment.canonical_json()
        self._hash = self.experiment.hash()

    def run(self) -> None:
        """All rounds that are left, then the final evaluation; metrics.json is kept up to date.

        Raises:
            QuorumError: too few sites answered; everything up to the last whole round is kept.
        """
        self._tell(
            "start",
            run=self.checkpoint.run,
            round=self.checkpoint.round,
            rounds=self.experiment.federation.rounds,
        )
        try:
            self._gather()
            self._train()
            evaluation = self._evaluate(self.checkpoint.round, probes=True)
        except QuorumError as error:
            self._tell("stopped", reason=str(error))
            self._write_metrics("stopped", {})
            raise
        self._hand_out()
        self._tell("finished", round=self.checkpoint.round, model=self.downlink.digest)
        self._write_metrics("finished", evaluation)

    def _train(self) -> None:
        config = self.experiment.federation
        optimiser = ServerOptimiser(self.checkpoint.arrays, config.server_optimiser)
        kept = self.checkpoint.folder / "optimiser.safetensors"
        if kept.exists():
            optimiser.load(kept)
        for number in range(self.checkpoint.round + 1, config.rounds + 1):
            result = self._round(number)
            mean = WeightedMean()
            # In the sites' order, not in that of arrival, so that the sum is the same each time.
            for site in sorted(result.updates):
                update, metrics = result.updates[site]
                # With privacy no number counts that a site could choose.
                mean.fold(update, 1 if self.private else metrics.studies)
            self.checkpoint = Checkpoint(
                self.checkpoint.run,
                number,
                optimiser.step(mean.result()),
                self.checkpoint.base,
                self.checkpoint.folder,
            )
            self.downlink.publish(self.checkpoint.arrays)
            # Told before it is saved: a crash between the two repeats the round, and its last telling counts.
            self._tell("round", round=number, **_figures(result, self.at_once))
            self.folder.save(self.checkpoint, optimiser.save)
            if (
                config.evaluate_every
                and number % config.evaluate_every == 0 < config.rounds - number
            ):
                self._evaluate(number, probes=False)

    def _round(self, number: int) -> Round:
        begin, result = time.monotonic(), Round()
        for site, reply in self._ask("train", number, self.roster):
            try:
                update = check_update(reply.payload, self.checkpoint.arrays)
            except ProtocolError as error:
                self.audit.record(site, number, reply, "refused")
                self._problem(number, site, f"update refused: {error}")
                continue
            self.audit.record(site, number, reply, "accepted")
            assert reply.answer is not None
            assert reply.answer.training is not None
            result.sketches[site] = sketch(update)
            result.updates[site] = update, reply.answer.training
            if reply.answer.training.privacy:
                self._ledgers[site] = reply.answer.training.privacy.head
            result.bytes_up[site] = reply.bytes_up
            result.bytes_down[site] = reply.bytes_down
            result.norms[site] = length = norm(update)
            self._tell("update", round=number, site=site, bytes_up=reply.bytes_up, norm=length)
        self._require_quorum(f"round {number}", list(result.updates))
        result.seconds = time.monotonic() - begin
        return result

    def _evaluate(self, number: int, *, probes: bool) -> dict[str, Any]:
        counts: dict[str, EvaluationCounts] = {}
        # Under patient-level privacy evaluations stay at the sites.
        asked = {} if self.experiment.privacy.mode == "patient" else self.roster
        for site, reply in self._ask("evaluate", number, asked, probes=probes):
            assert reply.answer is not None
            assert reply.answer.evaluation is not None
            counts[site] = reply.answer.evaluation
        evaluation = summary(counts)
        self._tell("evaluation", round=number, federated=evaluation)
        return evaluation

    def _hand_out(self) -> None:
        """Give every site the last model; one that does not take it gets it when the run is started again."""
        for site, reply in self._ask("finish", self.checkpoint.round, self.roster):
            assert reply.answer is not None
            if reply.answer.final == self.downlink.digest:
                self._tell("received", round=self.checkpoint.round, site=site)
            else:
                self._problem(self.checkpoint.round, site, "it has put away another model")

    def _gather(self) -> None:
        """Wait for nodes, learn their names, and keep those whose base model is the run's."""
        end = time.monotonic() + GATHERING_S
        nodes = list(self.grid.get_node_ids())
        while len(nodes) < self.expected and time.monotonic() < end:
            time.sleep(0.2)
            nodes = list(self.grid.get_node_ids())
        unnamed = {f"node {node}": node for node in nodes}
        for _, reply in self._ask("describe", self.checkpoint.round, unnamed, named=False):
            assert reply.answer is not None
            assert reply.answer.description is not None
            site = reply.answer.site
            if reply.answer.description != self.checkpoint.base:
                self._problem(0, site, "its base model is not the run's; install the same weights")
            elif site in self.roster:
                self._problem(0, site, "two nodes have this site's name; give each its own")
            else:
                self.roster[site] = reply.node
        self.roster = dict(sorted(self.roster.items()))
        self._tell("roster", sites=list(self.roster))
        self._require_quorum("start", list(self.roster))

    def _ask(
        self,
        kind: Kind,
        number: int,
        nodes: dict[str, int],
        *,
        probes: bool = False,
        named: bool = True,
    ) -> Iterator[tuple[str, Reply]]:
        """Yield (site, reply) of each answer that is whole; tell of the others."""
        tasks = {
            node: Task(
                run=self.checkpoint.run,
                round=number,
                task=f"{kind}-{number}-{site}".replace(" ", "-"),
                kind=kind,
                experiment=self._canonical,
                experiment_hash=self._hash,
                probes=probes,
                ledger=self._ledgers.get(site) if kind == "train" else None,
                deadline_s=self.experiment.federation.deadline_s,
            )
            for site, node in nodes.items()
        }
        names = {node: site for site, node in nodes.items()}
        if named:
            self._tell("asked", round=number, task=kind, sites=list(nodes))
        payloads = {
            node: self.downlink.block_for(site) if kind != "describe" else b""
            for site, node in nodes.items()
        }
        self.downlink.forget(nodes)
        for reply in ask(self.grid, tasks, payloads, self.experiment.federation.deadline_s):
            site = names.pop(reply.node)
            if reply.answer is None:
                self._problem(number, site, reply.problem)
                continue
            name = site if named else reply.answer.site
            if reply.answer.status != "ok":
                self._problem(number, name, reply.answer.status.sentence, reply.answer.status.value)
                continue
            try:
                check_answer(reply.answer, tasks[reply.node], site if named else None)
            except ProtocolError as error:
                self._problem(number, site, str(error))
                continue
            self.downlink.learn(name, reply.answer.holds)
            yield name, reply
        for site in names.values():
            self._problem(number, site, "no answer before the deadline")

    def _require_quorum(self, when: str, sites: list[str]) -> None:
        quorum = self.experiment.federation.quorum
        if len(sites) < quorum:
            raise QuorumError(
                f"{len(sites)} of at least {quorum} sites answered",
                where=when,
                fix=f"Read the sites' problems in {self.folder.path / 'rounds.jsonl'}, mend them and "
                "run again with the same --out; with a lower federation.quorum give a new one",
            )

    def _problem(self, number: int, site: str, problem: str, code: str = "refused") -> None:
        self._tell("problem", round=number, site=site, problem=problem, code=code)

    def _tell(self, kind: str, **values: Any) -> None:
        event = {"event": kind, **values}
        self.folder.log(event)
        self.listener(event)

    def _write_metrics(self, status: str, evaluation: dict[str, Any]) -> None:
        events = self.folder.events()
        rounds = {e["round"]: e for e in events if e["event"] == "round"}.values()
        base = self.checkpoint.base
        self.folder.write_metrics(
            {
                "name": self.experiment.name,
                "status": status,
                "run": self.checkpoint.run,
                "experiment_hash": self._hash,
                "model_sha256": self.downlink.digest,
                "rounds": self.checkpoint.round,
                "sites": list(self.roster),
                "problems": [
                    {key: event[key] for key in ("round", "site", "problem", "code")}
                    for event in events
                    if event["event"] == "problem"
                ],
                "evaluation": {"federated": evaluation},
                "privacy": statement(self.experiment.privacy, events),
                "exchange": {
                    "bytes_up_per_site_round": _mean_size(rounds, "bytes_up"),
                    "bytes_down_per_site_round": _mean_size(rounds, "bytes_down"),
                    "trained_parameters": base.trained_parameters,
                    "frozen_parameters": base.frozen_parameters,
                },
                "timing": {
                    "train_s": sum(event["train_s"] for event in rounds),
                    "overhead_s": sum(event["seconds"] - event["train_s"] for event in rounds),
                },
            }
        )


def _mean_size(rounds: Collection[Event], way: str) -> int:
    sizes = [size for event in rounds for size in event[way].values()]
    return round(sum(sizes) / len(sizes)) if sizes else 0


def _figures(result: Round, at_once: int) -> dict[str, Any]:
    """What rounds.jsonl says of a round. `train_s` is the time the round must take at least to train."""
    metrics = {site: result.updates[site][1] for site in sorted(result.updates)}
    seconds = [m.seconds for m in metrics.values()]
    names = sorted({name for m in metrics.values() for name in m.terms})
    terms = {}
    for name in names:
        having = [m for m in metrics.values() if name in m.terms]
        weight = sum(m.studies for m in having)
        terms[name] = sum(m.terms[name] * m.studies for m in having) / weight
    return {
        "seconds": result.seconds,
        "train_s": min(result.seconds, max(max(seconds), sum(seconds) / at_once)),
        "bytes_up": {site: result.bytes_up[site] for site in metrics},
        "bytes_down": {site: result.bytes_down[site] for site in metrics},
        "norms": {site: result.norms[site] for site in metrics},
        "cosines": cosines_to_mean(
            result.sketches, {site: float(m.studies) for site, m in metrics.items()}
        ),
        "sites": {site: m.model_dump() for site, m in metrics.items()},
        "terms": terms,
    }
