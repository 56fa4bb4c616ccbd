"""Memory and time of the server for a hundred sites with updates of 86M values.

    python -m benchmarks.federation.many_sites [--sites 100] [--rounds 1] [--optimiser X]
        [--tower X]

Rounds of the server's own loop over sites without local work, which a separate process answers for.
Everything else is real: both processes decode, check and encode whole blocks of random float32
values, messages are Flower's own, sent as the objects that its grid sends, and the server checks,
folds, steps and writes its checkpoint. It imports no tower; the sites' process computes the shapes.

`server_peak_over_model`: the server's peak resident memory above its size after imports, over the
model's bytes. `update_over_read`: CPU seconds of norm and fold of an update over those of reading
it once (the sum of its values); decoding and the sketch are separate, in CPU seconds per update.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import wraps
from itertools import count
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_id,
    no_object_id_recompute,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

import server.round.collect
import server.round.validation
from benchmarks.common import last_line
from benchmarks.method.memory import growth, resident
from mama.config import Experiment
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Answer, Description, Task
from server.flower.one_copy import stay_lean
from server.round.run import FederatedRun
from server.run.context import RunContext
from server.run.events import Event, TaskSent
from server.run.folder import RunFolder

BASE = Description(fingerprint="0" * 64, trained_parameters=1, frozen_parameters=1)
TIMES: dict[str, list[float]] = {name: [] for name in ("decode", "norm", "fold", "sketch", "read")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--optimiser", default="sgd")
    parser.add_argument("--tower", default="vit_base_patch14_reg4_dinov2")
    options = parser.parse_args()
    torch.set_num_threads(1)
    experiment = an_experiment(options.rounds, options.optimiser)
    with tempfile.TemporaryDirectory() as work:
        last_line(measure(Path(work) / "run", options.sites, experiment, options.tower))


def measure(out: Path, sites: int, experiment: Experiment, tower: str) -> dict[str, Any]:
    """Measure a run whose folder the sites' process creates, as it alone holds a second model."""
    ours, theirs = get_context("spawn").Pipe()
    child = get_context("spawn").Process(
        target=serve_sites, args=(theirs, out, experiment, tower), daemon=True
    )
    child.start()
    size = ours.recv()
    instrument()
    stay_lean()
    idle = resident()
    begin = time.monotonic()

    def run() -> None:
        grid = PipeGrid(ours, sites)
        with suppress(MeasuredError):
            FederatedRun(grid, RunContext(RunFolder(out), listen, expected=sites, slots=1)).run()

    above = growth(run)
    seconds = time.monotonic() - begin
    ours.close()
    child.join()
    median = {name: statistics.median(values) for name, values in TIMES.items()}
    assert len(TIMES["fold"]) == sites * experiment.federation.rounds
    assert not {"timm", "transformers", "peft"} & set(sys.modules)
    return {
        "sites": sites,
        "rounds": experiment.federation.rounds,
        "optimiser": experiment.strategy.server_optimiser.kind,
        "model_mb": round(size / 1e6),
        "idle_mb": round(idle * 2**20 / 1e6),
        "server_peak_over_model": round(above * 2**20 / size, 2),
        "update_over_read": round((median["norm"] + median["fold"]) / median["read"], 2),
        **{f"{name}_s": round(value, 3) for name, value in median.items()},
        "seconds_an_update": round(seconds / len(TIMES["fold"]), 2),
    }


class MeasuredError(Exception):
    """Signal that the last round is over and its checkpoint written."""


def listen(event: Event) -> None:
    if isinstance(event, TaskSent) and event.task == "evaluate":
        raise MeasuredError


def instrument() -> None:
    """Time the server's work on each update, and one reading of it."""
    check = server.round.validation.decode

    def decode_and_read(payload: bytes, shapes: dict) -> Arrays:
        begin = time.process_time()
        update = check(payload, shapes)
        TIMES["decode"].append(time.process_time() - begin)
        begin = time.process_time()
        for array in update.values():
            array.sum()
        TIMES["read"].append(time.process_time() - begin)
        return update

    server.round.validation.decode = decode_and_read
    server.round.collect.sketch = timed("sketch", server.round.collect.sketch)
    norm, timed_norm = (
        server.round.validation.update_norm,
        timed("norm", server.round.validation.update_norm),
    )
    # Calls without variates are not counted.
    server.round.validation.update_norm = lambda update: (
        timed_norm(update) if update else norm(update)
    )
    combination = server.round.collect.Combination
    combination.fold = timed("fold", combination.fold)


def timed(name: str, work: Callable) -> Callable:
    @wraps(work)
    def call(*arguments: Any, **named: Any) -> Any:
        begin = time.process_time()
        result = work(*arguments, **named)
        TIMES[name].append(time.process_time() - begin)
        return result

    return call


class PipeGrid(Grid):
    """Grid that exchanges serialised messages with another process, one at a time."""

    def __init__(self, pipe: Connection, sites: int):
        self.pipe, self.sites = pipe, sites
        self.waiting: deque[tuple[str, Message]] = deque()
        self.numbers = count(1)
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 0

    def set_run(self, run: Run) -> None:
        """Ignore the run: this grid has a single one."""

    @property
    def run(self) -> Run:
        """Single run of this grid."""
        return Run.create_empty(run_id=1)

    def create_message(self, *arguments: Any, **named: Any) -> Message:
        """Return a message; not used."""
        raise NotImplementedError

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes, numbered from 1."""
        return range(1, self.sites + 1)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Keep each message until its answer is pulled, since the pipe's buffer is small."""
        names = []
        for message in messages:
            names.append(str(next(self.numbers)))
            self.waiting.append((names[-1], message))
        return names

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the next answer if it is among the requested ones."""
        if not self.waiting or self.waiting[0][0] not in message_ids:
            return []
        send(self.pipe, self.waiting.popleft()[1])
        return [receive(self.pipe)]

    def send_and_receive(self, *arguments: Any, **named: Any) -> Iterable[Message]:
        """Send and receive; not used."""
        raise NotImplementedError


def send(pipe: Connection, message: Message) -> None:
    """Send a message as Flower's grid does: object by object, arrays in pieces of 5 MB."""
    with no_object_id_recompute():
        objects = get_all_nested_objects(message)
        pipe.send((message.object_id, len(objects)))
        for one in objects.values():
            pipe.send_bytes(one.deflate())


def receive(pipe: Connection) -> Message:
    """Receive a message and assemble it from its objects as Flower's grid does."""
    name, number = pipe.recv()
    contents = {}
    for _ in range(number):
        content = pipe.recv_bytes()
        contents[get_object_id(content)] = content
        del content
    message = cast(Message, inflate_object_from_contents(name, contents))
    message.metadata.__dict__["_message_id"] = name
    return message


def serve_sites(pipe: Connection, out: Path, experiment: Experiment, tower: str) -> None:
    """Run the sites' process: create the run's folder, then answer every message."""
    torch.set_num_threads(1)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    random = np.random.default_rng(0)
    arrays = {
        name: random.standard_normal(shape, np.float32) * np.float32(0.02)
        for name, shape in tower_shapes(tower).items()
    }
    RunFolder.create(out, experiment, arrays, BASE)
    size = sum(array.nbytes for array in arrays.values())
    pipe.send(size)
    with suppress(EOFError):
        while True:
            send(pipe, answer(receive(pipe), random))


def answer(message: Message, random: np.random.Generator) -> Message:
    """Return a site's answer with the shapes of the decoded model and random values."""
    task = Task.decode(message.content.config_records["header"]["json"])
    result: dict[str, Any] = {"description": BASE}
    block = b""
    if task.kind == "train":
        model = decode(message.content.array_records["payload"]["tensors"].data)
        # Sites differ in the offset into one draw of noise.
        noise = random.standard_normal(2**20, np.float32) * np.float32(1e-3)
        update = {name: np.resize(noise, array.shape) for name, array in model.items()}
        metrics = TrainingMetrics(
            studies=10, patients=10, steps=1, skipped=0, seconds=0.0, terms={"loss": 1.0}
        )
        result, block = {"training": metrics}, encode(update)
    site = f"site-{message.metadata.dst_node_id:03d}"
    reply = Answer(run=task.run, round=task.round, task=task.task, site=site, status="ok", **result)
    content = RecordDict(
        {
            "header": ConfigRecord({"json": reply.model_dump_json()}),
            "payload": ArrayRecord(
                {"tensors": Array("uint8", (len(block),), "safetensors", block)}
            ),
        }
    )
    return Message(content, reply_to=message)


def an_experiment(rounds: int, optimiser: str) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "many_sites",
            "image": {"tower": "any", "size": [32, 32]},
            "text": {"tower": "any"},
            "federation": {"rounds": rounds, "local_steps": 1},
            "strategy": {"server_optimiser": {"kind": optimiser}},
            "evaluation": {
                "density": {"A": ["a"], "B": ["b"]},
                "suspicious": {"no": ["a"], "yes": ["b"]},
            },
        }
    )


def tower_shapes(tower: str) -> dict[str, tuple[int, ...]]:
    import timm

    with torch.device("meta"):
        model = timm.create_model(tower, num_classes=0)
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


if __name__ == "__main__":
    main()
