"""Messages survive a round trip; hostile ones are a ProtocolError that repeats nothing."""

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.config import Experiment
from mama.errors import ProtocolError, VersionError
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import EvaluationCounts, TrainingMetrics
from mama.exchange.protocol import (
    MAX_HEADER,
    MAX_ROSTER,
    PROTOCOL,
    Answer,
    Description,
    Header,
    Rehearsal,
    Task,
)

EVIL = "EVIL\x1b[2J\nforged: line"


def task(text: str = "{}", **changes: Any) -> Task:
    claimed = hashlib.sha256(text.encode()).hexdigest()
    fields = {"run": "r-1", "round": 3, "task": "t:1", "kind": "train", "experiment": text}
    return Task.model_validate(fields | {"experiment_hash": claimed} | changes)


def answer(**changes: Any) -> Answer:
    fields = {"run": "r-1", "round": 3, "task": "t:1", "site": "north", "status": "ok"}
    return Answer.model_validate(fields | changes)


METRICS = TrainingMetrics(
    studies=5, patients=5, steps=2, skipped=0, seconds=0.5, terms={"loss": 1.25}
)
DESCRIPTION = Description(fingerprint="0" * 64, trained_parameters=1, frozen_parameters=2)


@pytest.mark.parametrize(
    "message",
    [
        task(),
        task(kind="evaluate", probes=True),
        task(kind="rehearse", deadline_s=0.5),
        task(kind="finish"),
        answer(),
        answer(status=ErrorCode.NO_STUDIES),
        answer(training=METRICS),
        answer(description=DESCRIPTION),
        answer(evaluation=EvaluationCounts(counts={})),
        answer(rehearsal=Rehearsal(seconds=0.5, peak_mib=700)),
        answer(final="0" * 64),
    ],
)
def test_messages_return_as_they_were(message: Header) -> None:
    assert type(message).decode(message.encode()) == message
    assert json.loads(message.encode())["protocol"] == PROTOCOL == 3


# As protocol 2 wrote them.
HASH = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
DESCRIBE_2 = (
    '{"protocol":2,"run":"r-1","round":3,"task":"describe-3-alder","kind":"describe","experiment":"{}",'
    f'"experiment_hash":"{HASH}","probes":false,"ledger":null,"roster":null,"deadline_s":60.0}}'
)
TRAIN_2 = (
    '{"protocol":2,"run":"r-1","round":3,"task":"train-3-alder","kind":"train","experiment":"{}",'
    f'"experiment_hash":"{HASH}","probes":false,"ledger":"{"a" * 64}","roster":null,'
    '"deadline_s":60.0}'
)
DESCRIBED_2 = (
    '{"protocol":2,"run":"r-1","round":3,"task":"describe-3-alder","site":"alder","status":"ok","description":'
    f'{{"fingerprint":"{"0" * 64}","trained_parameters":7,"frozen_parameters":9}},"training":null,'
    f'"evaluation":null,"rehearsal":null,"final":null,"holds":"{"b" * 64}"}}'
)
TRAINED_2 = (
    '{"protocol":2,"run":"r-1","round":3,"task":"train-3-alder","site":"alder","status":"ok","description":null,'
    '"training":{"studies":5,"patients":5,"steps":2,"skipped":0,"seconds":0.5,"terms":{"loss":1.25},'
    '"privacy":null},"evaluation":null,"rehearsal":null,"final":null,"holds":null}'
)
REFUSED_2 = (
    '{"protocol":2,"run":"unknown","round":0,"task":"unknown","site":"alder","status":"bad_request",'
    '"description":null,"training":null,"evaluation":null,"rehearsal":null,"final":null,"holds":null}'
)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Task, DESCRIBE_2),
        (Task, TRAIN_2),
        (Answer, DESCRIBED_2),
        (Answer, TRAINED_2),
        (Answer, REFUSED_2),
    ],
)
def test_the_version_before_is_read_and_written_as_it_was(kind: type[Header], text: str) -> None:
    assert kind.decode(text).encode() == text


def test_a_task_in_the_version_before_goes_without_what_is_new() -> None:
    new = task(nonce="0" * 32, ledger="a" * 64, deadline_s=60.0, task="train-3-alder")
    assert json.loads(new.encode())["nonce"] == "0" * 32
    assert new.model_copy(update={"protocol": 2}).encode() == TRAIN_2


@pytest.mark.parametrize("version", [-1, 0, 1, 4, 10**6])
def test_other_versions_are_named_whatever_else_they_say(version: int) -> None:
    for kind, text in ((Task, TRAIN_2), (Answer, TRAINED_2)):
        other = json.loads(text) | {"protocol": version, EVIL: EVIL}
        with pytest.raises(VersionError) as error:
            kind.decode(json.dumps(other))
        assert str(error.value) == "header has an unsupported protocol version"


def test_the_experiment_travels(experiment: Experiment) -> None:
    sent = task(experiment.canonical_json())
    assert sent.experiment_hash == experiment.hash()
    assert Task.decode(sent.encode()).read_experiment() == experiment


def test_a_tampered_experiment_is_refused(experiment: Experiment) -> None:
    text = experiment.canonical_json()
    tampered = task(text.replace('"seed":3', '"seed":4'), experiment_hash=experiment.hash())
    with pytest.raises(ProtocolError, match="does not have the hash it claims"):
        tampered.read_experiment()


def changed(experiment: Experiment, *path: str, to: object) -> str:
    values = json.loads(experiment.canonical_json())
    place = values
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = to
    return json.dumps(values)


def hostile_texts(experiment: Experiment) -> dict[str, str]:
    return {
        "path": changed(experiment, "text", "tower", to="../" + EVIL),
        "option": changed(experiment, "image", "options", to={"checkpoint_path": 1}),
        "key": changed(experiment, EVIL, to=1),
        "huge": changed(experiment, "federation", "rounds", to=10**9),
        "nan": changed(experiment, "optimiser", "lr", to=float("nan")),
        "digits": '{"seed": ' + "9" * 5000 + "}",
        "deep": "[" * 100_000,
        "list": "[]",
        "not json": EVIL,
        "empty": "",
    }


@pytest.mark.parametrize(
    "kind",
    ["path", "option", "key", "huge", "nan", "digits", "deep", "list", "not json", "empty"],
)
def test_an_experiment_with_the_right_hash_is_still_checked(
    experiment: Experiment, kind: str
) -> None:
    with pytest.raises(ProtocolError) as error:
        task(hostile_texts(experiment)[kind]).read_experiment()
    assert str(error.value) == "the experiment is not valid"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"run": "../" + EVIL}, "run"),
        ({"run": ""}, "run"),
        ({"run": "r\n"}, "run"),
        ({"task": "x" * 129}, "task"),
        ({"round": -1}, "round"),
        ({"round": 1.5}, "round"),
        ({"round": True}, None),
        ({"kind": EVIL}, "kind"),
        ({"experiment_hash": "0" * 63}, "experiment_hash"),
        ({"experiment_hash": "G" * 64}, "experiment_hash"),
        ({"experiment": "x" * (2**20 + 1)}, "experiment"),
        ({EVIL: 1}, ""),
        ({"protocol": EVIL}, "protocol"),
        ({"roster": 1}, "roster"),
        ({"roster": "x" * (MAX_ROSTER + 1)}, "roster"),
    ],
)
def test_tasks_that_break_the_protocol(changes: dict[str, Any], place: str | None) -> None:
    fields = json.loads(task().encode()) | changes
    if place is None:
        assert Task.decode(json.dumps(fields)).round == 1
        return
    with pytest.raises(ProtocolError) as error:
        Task.decode(json.dumps(fields))
    prefix = f"{place}: " if place else ""
    assert str(error.value) == f"{prefix}header does not follow the protocol"


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"site": "../x"}, "site"),
        ({"site": EVIL}, "site"),
        ({"status": EVIL}, "status"),
        ({"status": None}, "status"),
        ({"message": EVIL}, ""),  # no free text beside the code
        ({"training": {**METRICS.model_dump(), EVIL: 1}}, "training"),
        ({"training": {**METRICS.model_dump(), "terms": {EVIL: 1.0}}}, "training"),
        ({"training": {**METRICS.model_dump(), "terms": {"loss": EVIL}}}, "training"),
        ({"evaluation": {"counts": {EVIL: {}}}}, "evaluation"),
        ({"description": {**DESCRIPTION.model_dump(), "fingerprint": EVIL}}, "description"),
    ],
)
def test_answers_that_break_the_protocol(changes: dict[str, Any], place: str) -> None:
    fields = json.loads(answer().encode()) | changes
    with pytest.raises(ProtocolError) as error:
        Answer.decode(json.dumps(fields))
    prefix = f"{place}: " if place else ""
    assert str(error.value) == f"{prefix}header does not follow the protocol"


@pytest.mark.parametrize("field", ["run", "round", "task", "kind", "experiment", "experiment_hash"])
def test_no_part_of_a_task_may_be_missing(field: str) -> None:
    fields = json.loads(task().encode())
    del fields[field]
    with pytest.raises(ProtocolError, match=f"^{field}: "):
        Task.decode(json.dumps(fields))


@pytest.mark.parametrize("text", [None, b"{}", 3, " " * (MAX_HEADER + 1)])
def test_headers_are_texts_of_limited_size(text: object) -> None:
    with pytest.raises(ProtocolError, match="header is missing or too large"):
        Task.decode(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.text() | JSON.map(json.dumps))
@settings(max_examples=150, deadline=None)
def test_no_text_is_a_task_by_chance(text: str) -> None:
    for kind in (Task, Answer):
        with pytest.raises(ProtocolError, match="header"):
            kind.decode(text)


@given(st.sampled_from(sorted(Task.model_fields)), JSON)
@settings(max_examples=200, deadline=None)
def test_any_value_in_a_field_is_refused_in_one_way(field: str, value: Any) -> None:
    text = json.dumps(json.loads(task().encode()) | {field: value})
    with pytest.raises(ProtocolError) as error:  # at the latest: the experiment is empty
        Task.decode(text).read_experiment()
    assert error.value.where in ("", field)
