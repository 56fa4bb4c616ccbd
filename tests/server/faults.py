"""Sites that answer at once with small arrays, behind a grid with the faults a test plans.

Time is the test's own: it passes only when the server sleeps, so that no test waits and none
depends on speed.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Error, Message, RecordDict
from flwr.app.user_config import UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from mama.config import Experiment
from mama.config.federation import FederationConfig, ParticipationConfig
from mama.config.strategy import StrategyConfig
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import digest_of
from mama.exchange.codecs.coding import encode
from mama.exchange.metrics import (
    Cell,
    DataStatistics,
    EvaluationCounts,
    LabelCounts,
    Recall,
    TrainingMetrics,
)
from mama.exchange.protocol import Answer, Description, Task
from mama.exchange.signature import sign_answer
from mama.exchange.signing import new_key
from mama.system.seeds import numpy_generator
from server.round.run import FederatedRun
from server.run.context import RunContext
from server.run.events import Event
from server.run.folder import RunFolder
from sim.engines.inprocess import InProcessGrid

BASE = Description(fingerprint="0" * 64, trained_parameters=17, frozen_parameters=3)
SHAPES = {"bias": (5,), "weight": (3, 4)}
# What protocol 2 knew of a task, and what its sites say to anything else.
OLDER_KEYS = {
    *("protocol", "run", "round", "task", "kind", "experiment", "experiment_hash"),
    *("probes", "ledger", "roster", "deadline_s"),
}
OLDER_REFUSAL = (
    '{"protocol":2,"run":"unknown","round":0,"task":"unknown","site":"SITE","status":"bad_request",'
    '"description":null,"training":null,"evaluation":null,"rehearsal":null,"final":null,"holds":null}'
)
# Each fake site has a key of its own.
KEYS = {site: new_key() for site in ("alder", "birch", "cedar", "dogwood")}
STUDIES = {"alder": 8, "birch": 4, "cedar": 5, "dogwood": 7}


def initial() -> Arrays:
    """The global model before the first round."""
    random = np.random.default_rng(0)
    return {name: random.standard_normal(s).astype(np.float32) for name, s in SHAPES.items()}


def update(site: str, number: int, shapes: dict = SHAPES) -> Arrays:
    """What a site sends in a round."""
    random = numpy_generator(1, site, number)
    return {name: 0.1 * random.standard_normal(shape, np.float32) for name, shape in shapes.items()}


SECTIONS = {
    "federation": FederationConfig,
    "participation": ParticipationConfig,
    "strategy": StrategyConfig,
}


class Clock:
    """Stands in for the module `time` of the server's loop."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


class FakeSites(ClientApp):
    """All sites; their answers depend on site and round alone, as if resumed from disk."""

    def __init__(self, shapes: dict = SHAPES) -> None:
        super().__init__()
        self.shapes = shapes
        # Sites that were not updated yet: they know protocol 2 only.
        self.older: set[str] = set()
        self.done: Counter[tuple[str, str]] = Counter()
        self.statistics: dict[str, DataStatistics] = {}

    def __call__(self, message: Message, context: Context) -> Message:
        header = message.content.config_records["header"]["json"]
        task = Task.decode(header)
        site = Path(str(context.node_config["site-file"])).parent.name
        if site in self.older and (task.protocol != 2 or set(json.loads(header)) != OLDER_KEYS):
            return pack(message, OLDER_REFUSAL.replace("SITE", site), b"")
        self.done[site, task.task] += 1
        result: dict[str, Any] = {}
        data = b""
        if task.kind == "describe":
            result["description"] = BASE
        elif task.kind == "train":
            steps = task.read_experiment().federation.local_steps
            result["training"] = TrainingMetrics(
                studies=STUDIES[site],
                patients=STUDIES[site],
                steps=steps,
                skipped=0,
                seconds=1.0,
                terms={"loss": 1.0},
            )
            data = encode(update(site, task.round, self.shapes))
        elif task.kind == "statistics":
            result["statistics"] = self.statistics.get(site)
        elif task.kind == "finish":
            payload = message.content.array_records["payload"]["tensors"].data
            result["final"] = digest_of(payload)
        else:
            result["evaluation"] = counts(task.round)
        answer = Answer(
            protocol=task.protocol,
            run=task.run,
            round=task.round,
            task=task.task,
            site=site,
            status="ok",
            **result,
        )
        said = answer.encode()
        signature = sign_answer(KEYS[site], task, said, data) if task.nonce else ""
        return pack(message, said, data, signature)


def counts(number: int) -> EvaluationCounts:
    """An evaluation whose AUC is best after round 2."""
    right = 12 if number == 2 else 8
    cells = [
        Cell(start=0, stop=128, negatives=right, positives=4),
        Cell(start=128, stop=256, negatives=4, positives=right),
    ]
    recall = Recall(correct=right, wrong=4, mistaken=4)
    label = LabelCounts(histograms={"yes": cells}, recalls={"no": recall, "yes": recall})
    return EvaluationCounts(counts={"zero_shot": {"suspicious": label}})


def pack(message: Message, header: str, data: bytes, signature: str = "") -> Message:
    """An answer as a site packs it."""
    block = Array(dtype="uint8", shape=(len(data),), stype="safetensors", data=data)
    content = RecordDict(
        {
            "header": ConfigRecord({"json": header, "signature": signature}),
            "payload": ArrayRecord({"tensors": block}),
        }
    )
    return Message(content, reply_to=message)


@dataclass
class Fault:
    """Fault of one message: late by `delay` seconds, lost, an error, changed, or `noise`.

    Flower cannot assemble the pieces of `noise` into a message.
    """

    delay: float = 0.0
    lost: bool = False
    copies: int = 1
    error: int | None = None
    change: Callable[[str, bytes], tuple[str, bytes]] | None = None
    noise: bool = False


# (site, kind, round, how often the task was pushed before) -> what happens to it.
Plan = Callable[[str, str, int, int], Fault]


def fine(site: str, kind: str, number: int, attempt: int) -> Fault:
    return Fault()


class FaultyGrid(InProcessGrid):
    """`here` are the connected sites by node; others lose their messages, as at a SuperLink."""

    def __init__(self, app: ClientApp, sites: Iterable[str], clock: Clock, plan: Plan):
        names = list(sites)
        super().__init__(app, [Path(site) / "site.yaml" for site in names])
        self.clock, self.plan = clock, plan
        self.here = dict(enumerate(names, start=1))
        self.attempts: Counter[tuple[str, str]] = Counter()
        self.pushed: list[Task] = []
        self._waiting: dict[str, tuple[int, str, Fault, float]] = {}

    def connect(self, site: str, node: int) -> None:
        """A site connects as a node, new or not."""
        self.here[node] = site
        self._contexts[node] = Context(
            run_id=1,
            node_id=node,
            node_config=UserConfig({"site-file": f"{site}/site.yaml"}),
            state=RecordDict(),
            run_config=UserConfig(),
        )

    def get_node_ids(self) -> list[int]:
        return list(self.here)

    def push_messages(self, messages: Iterable[Message]) -> list[str]:
        names = []
        for message in messages:
            node = message.metadata.dst_node_id
            site = self.here.get(node, "nobody")
            task = Task.decode(message.content.config_records["header"]["json"])
            fault = self.plan(site, task.kind, task.round, self.attempts[site, task.task])
            self.attempts[site, task.task] += 1
            self.pushed.append(task)
            (name,) = super().push_messages([message])
            due = self.clock.now + fault.delay
            self._waiting[name] = node, site, fault, due
            names.append(name)
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> list[Message]:
        (name,) = message_ids
        if name not in self._waiting:
            return []
        node, site, fault, due = self._waiting[name]
        gone = self.here.get(node) != site
        if not gone and (fault.lost or self.clock.now < due):
            return []
        del self._waiting[name]
        if gone or fault.error is not None:
            code = ErrorCode.NODE_UNAVAILABLE if gone else fault.error
            return [self._error(name, code)]
        (reply,) = super().pull_messages([name])
        if fault.noise:
            contents = {o.object_id: o.deflate() for o in get_all_nested_objects(reply).values()}
            contents |= {
                name: content.replace(b'"arraychunk_ids": [0]', b'"arraychunk_ids": [9]')
                for name, content in contents.items()
            }
            return [inflate_object_from_contents(reply.object_id, contents)]
        if fault.change:
            header = str(reply.content.config_records["header"]["json"])
            data = reply.content.array_records["payload"]["tensors"].data
            header, data = fault.change(header, data)
            reply.content = pack(reply, header, data).content
        return [reply] * fault.copies

    def _error(self, name: str, code: int) -> Message:
        from flwr.common.serde import message_from_proto
        from flwr.proto.message_pb2 import Message as MessageProto

        asked = message_from_proto(MessageProto.FromString(self._pushed.pop(name)))
        return Message(Error(code, "cannot open /data/MARY_SMITH.dcm"), reply_to=asked)


@dataclass
class World:
    """A federation of fake sites: run it, look at it, run it again."""

    folder: RunFolder
    grid: FaultyGrid
    app: FakeSites
    clock: Clock
    events: list[dict[str, Any]] = field(default_factory=list)
    hooks: list[Callable[[dict[str, Any]], None]] = field(default_factory=list)
    slots: int = 10
    roster: Path | None = None
    expected: int | None = None

    def run(self) -> "World":
        def listen(event: Event) -> None:
            record = event.record()
            self.events.append(record)
            for hook in self.hooks:
                hook(record)

        run = RunContext(
            self.folder,
            listen,
            expected=self.expected or len(self.grid.here),
            slots=self.slots,
            roster=self.roster,
        )
        FederatedRun(self.grid, run).run()
        return self

    def logged(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] == kind]

    @property
    def answered(self) -> list[list[str]]:
        """Who was folded in each round."""
        return [sorted(event["sites"]) for event in self.logged("round")]

    @property
    def problems(self) -> list[tuple[int, str, str]]:
        return [(e["round"], e["site"], e["problem"]) for e in self.logged("problem")]

    @property
    def model(self) -> Arrays:
        return self.folder.latest().arrays

    def metrics(self) -> dict[str, Any]:
        return json.loads((self.folder.path / "metrics.json").read_text())


def replayed(rounds: Iterable[dict[str, float]], shapes: dict = SHAPES) -> Arrays:
    """The model after adding rounds' means, each given as {"site/round": weight}."""
    model = {name: array.astype(np.float64) for name, array in initial().items()}
    if shapes is not SHAPES:
        model = {name: np.zeros(shape) for name, shape in shapes.items()}
    for weights in rounds:
        total = sum(weights.values())
        for key, weight in weights.items():
            site, _, number = key.partition("/")
            for name, array in update(site, int(number), shapes).items():
                model[name] += weight / total * array
    return model


def assert_same(found: Arrays, wanted: Arrays, tolerance: float = 1e-6) -> None:
    assert set(found) == set(wanted)
    for name, array in wanted.items():
        np.testing.assert_allclose(found[name], array, rtol=0, atol=tolerance, err_msg=name)


def small_experiment(privacy: dict[str, Any] | None = None, **keys: Any) -> Experiment:
    """An experiment whose model nobody builds; each key goes to the section that has it."""
    keys = {"rounds": 3, "local_steps": 4, "deadline_s": 60.0, "weights": "studies"} | keys
    sections: dict[str, dict[str, Any]] = {}
    for key, value in keys.items():
        (name,) = (name for name, kind in SECTIONS.items() if key in kind.model_fields)
        sections.setdefault(name, {})[key] = value
    return Experiment.model_validate(
        {
            "name": "faults",
            "image": {"tower": "vit_tiny_patch16_224", "size": [32, 32]},
            "text": {"tower": "all-MiniLM-L6-v2"},
            **sections,
            "privacy": privacy or {},
            "evaluation": {
                "density": {"A": ["fatty"], "B": ["dense"]},
                "suspicious": {"no": ["benign"], "yes": ["malignant"]},
            },
        }
    )


def freeze_time(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in ("connections", "dispatch", "gathering", "loop", "sites"):
        monkeypatch.setattr(f"server.round.{module}.time", clock)
    return clock


FINE = {f"{site}": float(STUDIES[site]) for site in ("alder", "birch", "cedar")}


def only(site: str, number: int, fault: Fault, attempt: int | None = None):
    """A plan in which one site has one fault in one round of training."""

    def plan(who: str, kind: str, when: int, which: int) -> Fault:
        hit = (who, kind, when) == (site, "train", number) and attempt in (None, which)
        return fault if hit else Fault()

    return plan


def of(number: int, *sites: str) -> dict[str, float]:
    """A round's weights when these sites answered."""
    return {f"{site}/{number}": float(STUDIES[site]) for site in sites or FINE}
