"""Answers of a site: work done once, a code and a fixed sentence for every error."""

import json
import logging
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from client.handlers import answer
from client.policy.approval import Approvals
from client.site.config import load_site
from client.training import tasks
from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.exchange.codecs.coding import CODECS, decode, encode
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task

MakeTask = Callable[..., Task]


def refused(site_file: Path, header: object, payload: bytes = b"") -> ErrorCode:
    """The code, after checking that the answer holds nothing else."""
    reply, tensors = answer(load_site(site_file), header, payload)
    assert tensors == b""
    assert isinstance(reply.status, ErrorCode)
    assert reply.description is reply.training is reply.evaluation is None
    assert str(site_file.parent.parent) not in reply.encode()
    return reply.status


@pytest.mark.parametrize(
    "header",
    [None, b"bytes", 7, "", "null", "[]", "{}", '{"run": "r"}', "[" * 50_000, " " * 5_000_000],
)
def test_a_bad_header(site_file: Path, header: object) -> None:
    assert refused(site_file, header) == ErrorCode.BAD_REQUEST


def test_a_header_with_a_key_too_many(site_file: Path, make_task: MakeTask) -> None:
    header = json.dumps(json.loads(make_task().encode()) | {"shell": "rm"})
    assert refused(site_file, header) == ErrorCode.BAD_REQUEST


@pytest.mark.parametrize("changed", [{"protocol": 4}, {"protocol": 1}, {"protocol": 4, "new": 1}])
def test_another_protocol(
    site_file: Path, make_task: MakeTask, payload: bytes, changed: dict[str, int]
) -> None:
    header = json.dumps(json.loads(make_task().encode()) | changed)
    assert refused(site_file, header, payload) == ErrorCode.PROTOCOL


@pytest.mark.parametrize("kind", ["describe", "train", "evaluate", "finish", "rehearse"])
def test_the_protocol_before_is_answered_in_it(
    site_file: Path, experiment: Experiment, payload: bytes, kind: str
) -> None:
    # Exactly the keys that protocol 2 had.
    header = {
        "protocol": 2,
        "run": "run-1",
        "round": 1,
        "task": f"{kind}-1-alder",
        "kind": kind,
        "experiment": experiment.canonical_json(),
        "experiment_hash": experiment.hash(),
        "probes": False,
        "ledger": None,
        "roster": None,
        "deadline_s": 60.0,
    }
    site = load_site(site_file)
    if kind == "finish":  # there is a last model only of a run with a round here
        answer(site, json.dumps(header | {"kind": "train", "task": "train-1-alder"}), payload)
    reply, _ = answer(site, json.dumps(header), payload)
    assert reply.status == "ok"
    said = json.loads(reply.encode())
    assert (said["protocol"], said["evaluation"]) == (2, None)  # masked counts came later
    assert set(said) == {
        *("protocol", "run", "round", "task", "site", "status", "description", "training"),
        *("evaluation", "rehearsal", "final", "holds"),
    }
    shutil.rmtree(site_file.parent / "dataset")
    header |= {"task": "another", "round": 2}
    reply, _ = answer(load_site(site_file), json.dumps(header), b"")
    assert (reply.status != "ok", reply.protocol) == (True, 2)


def test_what_was_done_in_one_version_is_answered_in_the_other(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    site = load_site(site_file)
    old, update = answer(site, make_task(protocol=2).encode(), payload)
    again, same = answer(site, make_task().encode(), payload)
    assert (old.protocol, again.protocol) == (2, 3)
    assert (again.training, same) == (old.training, update)


def test_an_experiment_without_its_hash(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    header = make_task(experiment_hash="0" * 64).encode()
    assert refused(site_file, header, payload) == ErrorCode.BAD_REQUEST


def test_an_experiment_that_no_one_may_ask_for(
    site_file: Path, make_task: MakeTask, experiment: Any
) -> None:
    import hashlib

    values = json.loads(experiment.canonical_json())
    values["image"]["tower"] = "/etc/passwd"
    text = json.dumps(values)
    sha = hashlib.sha256(text.encode()).hexdigest()
    header = make_task(experiment=text, experiment_hash=sha).encode()
    assert refused(site_file, header) == ErrorCode.BAD_REQUEST


@pytest.mark.parametrize("kind", ["train", "evaluate"])
def test_tensors_that_do_not_fit(
    site_file: Path, make_task: MakeTask, payload: bytes, kind: str
) -> None:
    arrays = decode(payload)
    name = "image_projection.weight"
    wrong = [
        encode(arrays | {name: arrays[name].T[:1]}),
        encode(arrays | {name: np.full_like(arrays[name], np.nan)}),
        encode(arrays, CODECS["int8"])[:-1],
        encode({k: v for k, v in arrays.items() if k != name}),
        encode(arrays | {"more": arrays[name]}),
        payload[:-1],
        b"",
    ]
    header = make_task(kind).encode()
    assert {refused(site_file, header, tensors) for tensors in wrong} == {ErrorCode.BAD_REQUEST}


def test_more_local_steps_than_the_policy_allows(
    edit: Callable[..., Path], make_task: MakeTask, payload: bytes
) -> None:
    path = edit(policy={"max_local_steps": 1})
    assert refused(path, make_task().encode(), payload) == ErrorCode.POLICY_STEPS


@pytest.mark.parametrize("kind", ["describe", "train", "evaluate"])
def test_no_dataset(site_file: Path, make_task: MakeTask, payload: bytes, kind: str) -> None:
    shutil.rmtree(site_file.parent / "dataset")
    assert refused(site_file, make_task(kind).encode(), payload) == ErrorCode.NO_DATA


def test_a_damaged_manifest(site_file: Path, make_task: MakeTask) -> None:
    manifest = site_file.parent / "dataset" / "manifest.json"
    manifest.write_text(manifest.read_text()[:-20])
    assert refused(site_file, make_task("describe").encode()) == ErrorCode.NO_DATA


def test_a_lost_image(site_file: Path, make_task: MakeTask, payload: bytes) -> None:
    shutil.rmtree(site_file.parent / "dataset" / "images")
    assert refused(site_file, make_task().encode(), payload) == ErrorCode.NO_DATA


def test_a_base_model_that_is_not_there(
    edit: Callable[..., Path], make_task: MakeTask, small_config: Callable[..., Any], tmp_path: Path
) -> None:
    path = edit(models={"all-MiniLM-L6-v2": str(tmp_path / "nothing")})
    assert refused(path, make_task("describe").encode()) == ErrorCode.BASE_MODEL
    unknown = small_config("image.tower=no_such_tower").experiment()
    header = make_task("describe", of=unknown).encode()
    assert refused(path, header) == ErrorCode.BASE_MODEL


def test_a_secret_that_is_too_short(site_file: Path, make_task: MakeTask, payload: bytes) -> None:
    (site_file.parent / "secret.key").write_bytes(b"short")
    assert refused(site_file, make_task("evaluate").encode(), payload) == ErrorCode.NO_DATA


def test_exception_text_stays_in_the_sites_log(
    site_file: Path,
    make_task: MakeTask,
    payload: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ValueError("report of Mary Smith: mass")

    monkeypatch.setattr(tasks, "train", fail)
    reply, _ = answer(load_site(site_file), make_task().encode(), payload)
    assert reply.status == ErrorCode.INTERNAL
    assert "Mary" not in reply.encode()
    (record,) = caplog.records
    assert record.name == "fedmama.client"
    assert record.exc_info is not None


def test_an_expected_trouble_is_one_line_in_the_log(
    site_file: Path, make_task: MakeTask, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.rmtree(site_file.parent / "dataset")
    with caplog.at_level(logging.ERROR, "fedmama.client"):
        refused(site_file, make_task("describe").encode())
    (record,) = caplog.records
    assert not record.exc_info
    assert "no such folder. Check the path, or ingest" in record.getMessage()
    assert "\n" not in record.getMessage()


def test_a_task_asked_twice_is_done_once(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    steps: list[tuple[str, int]] = []
    header = make_task().encode()

    def ask() -> tuple[Answer, bytes]:
        return answer(load_site(site_file), header, payload, lambda *step: steps.append(step))

    first, update = ask()
    optimiser = load_file(
        site_file.parent / "state" / "runs" / "run-1" / "optimiser" / "round-000001.safetensors"
    )
    assert steps == [("alder", 0), ("alder", 1)]
    assert first.status == "ok"

    tasks._built.cache_clear()  # as after a restart, only the disk remembers
    again, same = ask()

    assert len(steps) == 2
    assert again == first
    assert same == update
    after = load_file(
        site_file.parent / "state" / "runs" / "run-1" / "optimiser" / "round-000001.safetensors"
    )
    assert {name for name in after if name.endswith(".step")} != set()
    assert all((optimiser[name] == after[name]).all() for name in after)


def test_the_next_task_and_another_run_are_done_anew(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    steps: list[int] = []
    site = load_site(site_file)
    for changed in (
        {},
        {"round": 2, "task": "train-2-alder"},
        {"run": "run-2"},
    ):
        reply, _ = answer(
            site, make_task(**changed).encode(), payload, lambda _, step: steps.append(step)
        )
        assert reply.status == "ok"
    assert steps == [0, 1, 2, 3, 0, 1]


def test_a_damaged_memory_of_the_last_answer_is_replaced(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    site, header = load_site(site_file), make_task().encode()
    answer(site, header, payload)
    kept = site.state / "runs" / "run-1" / "last_answer.safetensors"
    kept.write_bytes(kept.read_bytes()[:100])
    reply, update = answer(site, header, payload)
    assert reply.status == "ok"
    assert answer(site, header, payload) == (reply, update)


@pytest.mark.parametrize("run", ["..", ".", "../other", "a/b", ""])
def test_a_run_cannot_name_a_place_outside_of_the_sites_state(
    site_file: Path, make_task: MakeTask, payload: bytes, run: str
) -> None:
    values = json.loads(make_task().encode()) | {"run": run}
    before = set(site_file.parent.rglob("*"))
    assert refused(site_file, json.dumps(values), payload) == ErrorCode.BAD_REQUEST
    made = set(site_file.parent.rglob("*")) - before - {load_site(site_file).privacy}
    assert {path.name for path in made} == {"sent.jsonl", "sent.json", "sent.lock"}


def test_an_update_is_what_training_changed(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    _, update = answer(load_site(site_file), make_task().encode(), payload)
    arrays, sent = decode(payload), decode(update)
    assert {n: a.shape for n, a in sent.items()} == {n: a.shape for n, a in arrays.items()}
    assert all(array.dtype == np.float32 for array in sent.values())
    assert np.abs(sent["image_projection.weight"]).max() > 0


ALLOWED = {
    "describe": {"fingerprint", "trained_parameters", "frozen_parameters"},
    "train": {"studies", "patients", "steps", "skipped", "seconds", "terms", "privacy"},
    "evaluate": {"counts"},
    "rehearse": {"seconds", "peak_mib"},
    "finish": {"checksum"},
}
FIELD = {
    "describe": "description",
    "train": "training",
    "evaluate": "evaluation",
    "rehearse": "rehearsal",
    "finish": "final",
}


@pytest.mark.parametrize("kind", list(FIELD))
def test_an_answer_holds_figures_only(
    site_file: Path, make_task: MakeTask, payload: bytes, kind: str
) -> None:
    if kind == "finish":
        answer(load_site(site_file), make_task("train").encode(), payload)
    reply, _ = answer(load_site(site_file), make_task(kind, probes=True).encode(), payload)
    values = json.loads(reply.encode())

    own = values.pop(FIELD[kind])
    if kind == "finish":
        own = {"checksum": own}
    assert set(own) == ALLOWED[kind]
    assert values == {
        "protocol": 3,
        "run": "run-1",
        "round": 1,
        "task": f"{kind}-1-alder",
        "site": "alder",
        "status": "ok",
        "holds": None,
    } | {FIELD[other]: None for other in FIELD if other != kind}

    numbers, texts = [], []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            for part in value.values():
                walk(part)
        elif isinstance(value, list):
            for part in value:
                walk(part)
        elif value is not None:
            (texts if isinstance(value, str) else numbers).append(value)

    walk(own)
    assert len(texts) == (kind in ("describe", "finish"))  # a fingerprint, a checksum
    assert bool(numbers) == (kind != "finish")
    manifest = Dataset(site_file.parent / "dataset").manifest
    for study in manifest.studies:
        for name in (study.id, study.patient, *(image.id for image in study.images)):
            assert name not in reply.encode()


@pytest.mark.parametrize("kind", ["describe", "train", "evaluate", "finish", "rehearse"])
def test_a_rejected_experiment_is_refused_by_its_own_code(
    site_file: Path, make_task: MakeTask, payload: bytes, kind: str
) -> None:
    task = make_task(kind)
    approvals = Approvals(load_site(site_file))
    approvals.reject(task.experiment_hash)
    for _ in range(2):
        assert refused(site_file, task.encode(), payload) == ErrorCode.REJECTED
    assert approvals.listed() == []  # it does not wait either
    older = json.dumps(json.loads(task.encode()) | {"protocol": 2})
    assert refused(site_file, older, payload) == ErrorCode.NOT_APPROVED
