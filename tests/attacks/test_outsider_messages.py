"""Changed bytes on the wire: thousands of messages of each kind, signed as if by their sender.

Each is refused by an error of one line that repeats none of it, or is a valid message.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from client import app as client_app
from client.handlers import answer
from client.service.flower.intake import UNREADABLE as UNREADABLE_TASK
from client.service.flower.intake import pull_task
from client.site.config import load_site
from mama.config import Experiment
from mama.errors import MamaError
from mama.exchange.codes import ErrorCode
from mama.exchange.message_size import most_bytes
from mama.exchange.metrics import Cell, EvaluationCounts, LabelCounts, Recall, TrainingMetrics
from mama.exchange.protocol import Answer, Description, Rehearsal, Task
from mama.exchange.roster import PURPOSE, Member, Roster
from mama.exchange.signature import sign_answer
from mama.exchange.signing import new_key, public_line, sign
from server.round.evaluation import check_evaluation
from server.round.validation import check_answer, check_metrics
from tests.attacks.mutations import COUNT, changed_bytes, changed_texts, survived
from tests.mama.exchange.codecs.test_hostile import BLOCKS, CHANGE, START, sealed
from tests.mama.exchange.codecs.test_hostile import read as read_block
from tests.server.superlink import VALUES, Parts, SuperLink, reply_to, task_of
from tests.sim.secure_room import NAMES

pytestmark = pytest.mark.slow
KEY = new_key()
HISTOGRAM = [
    Cell(start=0, stop=128, negatives=9, positives=1),
    Cell(start=128, stop=256, negatives=1, positives=9),
]
RECALL = Recall(correct=9, wrong=1, mistaken=1)
COUNTS = LabelCounts(histograms={"yes": HISTOGRAM}, recalls={"no": RECALL, "yes": RECALL})
RESULTS: dict[str, dict[str, Any]] = {
    "describe": {
        "description": Description(fingerprint="0" * 64, trained_parameters=1, frozen_parameters=1)
    },
    "rehearse": {"rehearsal": Rehearsal(seconds=1, peak_mib=1)},
    "train": {
        "training": TrainingMetrics(
            studies=9, patients=8, steps=2, skipped=0, seconds=1.0, terms={"loss": 1.0}
        )
    },
    "evaluate": {"evaluation": EvaluationCounts(counts={"zero_shot": {"suspicious": COUNTS}})},
    "finish": {"final": "0" * 64},
}


@pytest.fixture(scope="module")
def experiment(small_config: Any) -> Experiment:
    return small_config().experiment()


@pytest.fixture(scope="module")
def task(experiment: Experiment) -> Task:
    return Task(
        run="run-1",
        round=1,
        task="describe-1-alder",
        kind="describe",
        experiment=experiment.canonical_json(),
        experiment_hash=experiment.hash(),
        nonce="0" * 32,
    )


def codes_of(path: Path, texts: Iterator[str]) -> set[str]:
    """A site's answers to tasks; each holds nothing but a code, or is that of an honest site."""
    site, codes = load_site(path), set()
    for text in texts:
        reply, block = answer(site, text, b"")
        codes.add(reply.status)
        assert reply.status != ErrorCode.INTERNAL, text[:3000]
        assert reply.status == "ok" or (reply.description, block) == (None, b"")
        assert "EVIL" not in reply.encode()
    return codes


def test_tasks(site_files: Callable[..., list[Path]], task: Task) -> None:
    path = site_files()[0]
    assert codes_of(path, iter([task.encode()])) == {"ok"}
    assert {"ok", ErrorCode.BAD_REQUEST, ErrorCode.PROTOCOL} <= codes_of(
        path, changed_texts(task.encode(), COUNT, 1)
    )


def asking_for(task: Task, texts: Iterator[str]) -> Iterator[Task]:
    """Tasks for changed experiments, each with the hash of what it asks for."""
    for text in texts:
        body = text.encode(errors="replace").decode()
        sha256 = hashlib.sha256(body.encode()).hexdigest()
        yield task.model_copy(update={"experiment": body, "experiment_hash": sha256})


def test_experiments(site_files: Callable[..., list[Path]], task: Task) -> None:
    """All are read; a site handles only each fortieth, as it may have to build the model."""
    path = site_files()[0]
    asked = list(asking_for(task, changed_texts(task.experiment, COUNT, 2)))
    survived(Task.read_experiment, iter(asked))
    assert ErrorCode.BAD_REQUEST in codes_of(path, (one.encode() for one in asked[::40]))


@pytest.mark.parametrize("kind", RESULTS)
def test_answers(kind: str, experiment: Experiment) -> None:
    task = task_of(kind)
    text = Answer(
        run="r", round=1, task=task.task, site="alder", status="ok", holds=None, **RESULTS[kind]
    ).encode()
    link = SuperLink()
    link.post.signers.key_of = lambda site: public_line(KEY.public_key())  # type: ignore[method-assign]

    def read(said: str) -> None:
        header = {"json": said, "signature": sign_answer(KEY, task, said, b"")}
        content = RecordDict({"header": ConfigRecord(header)})
        link.replies["name"] = Parts(Message(content, 1, "query"))
        (reply,) = link.post.pull("name", task)
        if reply.answer is None:
            raise MamaError(reply.problem)
        found = reply.answer
        check_answer(found, task, "alder")
        assert Answer.decode(found.encode()) == found
        if found.training:
            check_metrics(found.training, 2, 9)
        if found.evaluation:
            check_evaluation(found.evaluation, experiment, 90, probes=False)

    read(text)
    texts = (said for said in changed_texts(text, COUNT, 3) if said.isprintable())
    survived(read, texts)


def test_rosters() -> None:
    members = tuple(
        Member(site=site, public_key=public_line(new_key().public_key())) for site in NAMES[:3]
    )
    roster = Roster(federation="breast", version=7, members=members)
    whole = roster.signed(KEY)

    def signed(text: str) -> str:
        body = text.encode(errors="replace").decode()
        return json.dumps({"roster": body, "signature": sign(KEY, PURPOSE, body.encode()).hex()})

    def read(text: str) -> None:
        assert Roster.verified(text, KEY.public_key(), newest=2).version > 1

    read(whole)
    survived(read, changed_texts(whole, COUNT // 2, 4))
    bodies = changed_texts(json.loads(whole)["roster"], COUNT // 2, 5)
    survived(read, map(signed, bodies))


def whole_message(header: str) -> Parts:
    block = Array("uint8", (400,), "safetensors", bytes(range(200)) * 2)
    content = RecordDict(
        {
            "header": ConfigRecord({"json": header, "signature": ""}),
            "payload": ArrayRecord({"tensors": block}),
        }
    )
    return Parts(Message(content, 1, "query"))


def changed_pieces(parts: Parts, seed: int) -> Iterator[dict[str, bytes]]:
    draw = Random(seed)
    for _ in range(COUNT):
        pieces = dict(parts.pieces)
        for name in draw.sample(sorted(pieces), draw.choice((1, 1, 2))):
            pieces[name] = changed_bytes(pieces[name], draw)
        yield pieces


def test_pieces_of_answers() -> None:
    task, link = task_of("train"), SuperLink()
    parts = Parts(reply_to(task, bytes(400)))
    taken = 0
    for pieces in changed_pieces(parts, 9):
        forged = deepcopy(parts)
        forged.pieces = pieces
        link.replies["name"] = forged
        for reply in link.post.pull("name", task):
            assert (reply.answer is None) == bool(reply.problem)
            assert "EVIL" not in reply.problem
            assert len(reply.payload) <= most_bytes(VALUES)
            taken += reply.answer is not None
    assert 0 < taken < COUNT / 2


def test_pieces_of_tasks() -> None:
    parts = whole_message(task_of("train").encode())
    unpacked = 0
    for pieces in changed_pieces(parts, 10):
        try:
            message = pull_task(
                parts.tree, pieces.__getitem__, lambda name: None, room_of=lambda header: 1000
            )
            header, payload = client_app._unpack(message.content)
        except UNREADABLE_TASK:
            continue
        unpacked += 1
        assert len(payload) <= 1000
        assert header is None or isinstance(header, str | bytes | int | float | list | bool)
    assert 0 < unpacked < COUNT


@pytest.mark.parametrize("codec", [*BLOCKS, "change"])
def test_blocks(codec: str) -> None:
    """Of three in four the checksum is that of what they now hold."""
    whole, draw = BLOCKS.get(codec, CHANGE), Random(11)
    read = 0
    for number in range(COUNT):
        data = changed_bytes(whole, draw)
        if number % 4:
            data = sealed(data[START:], int.from_bytes(data[:8], "little"))
        read += read_block(data) is not None
    assert read < COUNT / 2
