"""Private rounds at a site: only update and public figures leave, and every round is paid."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from client.handlers import answer
from client.policy.private_terms import review_private
from client.privacy.ledger import SiteLedger
from client.privacy.round import PrivateRound, site_ledger
from client.site.config import load_site
from mama.config import Experiment
from mama.config.privacy import PrivacyConfig
from mama.data.adapters import find
from mama.data.ingest.ids import ids_of
from mama.data.manifest import read_manifest, write_manifest
from mama.data.studies import Sentence
from mama.exchange.codecs.block import unpack
from mama.exchange.codecs.coding import decode
from mama.exchange.codes import ErrorCode
from mama.exchange.metrics import PrivacySpent, TrainingMetrics
from mama.exchange.protocol import Answer, Task
from mama.privacy.groups import SlotPairs
from mama.privacy.slots import PatientSlots

MakeTask = Callable[..., Task]
PRIVACY = [
    "privacy={mode: patient, epsilon: 6, delta: 1.0e-5, group_size: 2, sample_rate: 0.5, "
    "max_grad_norm: 0.5, slots: 8}",
]


@pytest.fixture
def experiment(small_config: Callable[..., Any]) -> Experiment:
    return small_config(*PRIVACY).experiment()


def ask(site_file: Path, task: Task, payload: bytes) -> tuple[Answer, bytes]:
    return answer(load_site(site_file), task.encode(), payload)


def ledger(site_file: Path) -> SiteLedger:
    return site_ledger(load_site(site_file))


def charged(site_file: Path) -> int:
    return sum(steps for _, _, steps in ledger(site_file).charges)


def test_nothing_of_the_data_leaves_but_the_update(
    site_files: Callable[..., list[Path]],
    make_task: MakeTask,
    payload: bytes,
    experiment: Experiment,
) -> None:
    """Two sites' data could hardly differ more; the bytes beside the noised update are the same."""
    headers, blocks = [], []
    for name in ("plenty", "little"):
        site_file = site_files(name)[0]
        if name == "little":
            folder = site_file.parent / "dataset"
            manifest = read_manifest(folder)
            said = (Sentence(text="no mass .", side="both", section=None),)
            normal = [s.model_copy(update={"sentences": said}) for s in manifest.studies]
            train = [s for s in normal if s.split == "train"][:3]
            write_manifest(folder, manifest.model_copy(update={"studies": tuple(train)}))
        reply, update = ask(site_file, make_task(), payload)
        assert reply.status == "ok"
        header = json.loads(reply.encode())
        assert header["training"]["privacy"].pop("head") == ledger(site_file).head
        headers.append(json.dumps(header))
        blocks.append(update)
        kinds = {"describe", "evaluate"}
        for kind in sorted(kinds):
            answer, tensors = ask(
                site_file, make_task(kind), payload if kind == "evaluate" else b""
            )
            assert tensors == b""
            headers[-1] += answer.encode()
    assert headers[0] == headers[1]
    spoken = json.loads(headers[0][: headers[0].index("}{") + 1])
    assert {k for k, v in spoken.items() if v is not None} <= {
        "protocol", "run", "round", "task", "site", "status", "training",
    }  # fmt: skip
    assert spoken["training"].keys() == TrainingMetrics.model_fields.keys()
    assert spoken["training"]["privacy"].keys() == PrivacySpent.model_fields.keys() - {"head"}
    assert (spoken["training"]["studies"], spoken["training"]["terms"]) == (8, {})
    # The blocks hold the trained tensors and nothing else, in equal sizes.
    opened = [unpack(block) for block in blocks]
    assert opened[0].shapes == opened[1].shapes == unpack(payload).shapes
    assert len(blocks[0]) == len(blocks[1])
    updates = [decode(block) for block in blocks]
    assert any((updates[0][name] != updates[1][name]).any() for name in updates[0])


def test_a_round_is_paid_once_and_paid_again_when_done_again(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    first, update = ask(site_file, make_task(), payload)
    assert (charged(site_file), first.training.privacy.steps) == (2, 2)  # type: ignore[union-attr]
    again, same = ask(site_file, make_task(), payload)
    assert (again, same, charged(site_file)) == (first, update, 2)
    # The round under another task's name has the same noise, and costs nothing more.
    other, repeated = ask(site_file, make_task(task="train-1-again"), payload)
    assert (other.training, repeated, charged(site_file)) == (first.training, update, 2)
    # Another run has noise of its own, and its price.
    other, different = ask(site_file, make_task(run="run-2"), payload)
    assert different != update
    assert charged(site_file) == 4
    assert other.training.privacy.epsilon > first.training.privacy.epsilon  # type: ignore[union-attr]


def test_a_spent_budget_is_an_answer_and_releases_nothing(
    edit: Callable[..., Path], site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    ask(site_file, make_task(), payload)
    spent = ledger(site_file).epsilon()
    edit(budget={"epsilon": spent + 0.01})
    reply, update = ask(site_file, make_task(round=2, task="train-2"), payload)
    assert (reply.status, update) == (ErrorCode.BUDGET, b"")
    assert reply.training is None
    assert charged(site_file) == 2
    # The patients' budget is the same for another run and after another ingest.
    reply, _ = ask(site_file, make_task(run="run-2", task="train-3"), payload)
    assert reply.status == ErrorCode.BUDGET


def test_an_older_ledger_is_noticed_by_the_site_itself(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    ask(site_file, make_task(), payload)
    path = ledger(site_file).path
    earlier = path.read_bytes()
    ask(site_file, make_task(round=2, task="train-2"), payload)
    path.write_bytes(earlier)
    reply, update = ask(site_file, make_task(run="run-2", task="train-3"), payload)
    assert (reply.status, update) == (ErrorCode.LEDGER, b"")
    path.unlink()
    reply, _ = ask(site_file, make_task(run="run-2", task="train-3"), payload)
    assert reply.status == ErrorCode.LEDGER


def test_an_older_ledger_is_noticed_by_the_coordinator(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    first, _ = ask(site_file, make_task(), payload)
    head = first.training.privacy.head  # type: ignore[union-attr]
    reply, _ = ask(site_file, make_task(round=2, task="train-2", ledger=head), payload)
    assert reply.status == "ok"
    # A backup brings back the whole site, its own memory included.
    shutil.rmtree(site_file.parent / "state")
    ledger(site_file).path.unlink()
    reply, update = ask(site_file, make_task(run="run-2", task="train-3", ledger=head), payload)
    assert (reply.status, update) == (ErrorCode.LEDGER, b"")


def test_a_changed_ledger_stops_private_training(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    ask(site_file, make_task(), payload)
    path = ledger(site_file).path
    path.write_bytes(path.read_bytes().replace(b'"q":0.5', b'"q":0.1'))
    reply, _ = ask(site_file, make_task(round=2, task="train-2"), payload)
    assert reply.status == ErrorCode.LEDGER


def test_slots_stay_within_a_run_and_are_refilled_between_runs(
    site_file: Path, make_task: MakeTask, payload: bytes
) -> None:
    ask(site_file, make_task(), payload)
    site = load_site(site_file)
    first = PatientSlots.load(site.state / "runs" / "run-1" / "roster.json")
    assert len(first.slots) == 8
    assert all(first.slots)
    folder = site.data.dataset
    manifest = read_manifest(folder)
    gone = first.slots[0]
    moved = [
        study.model_copy(update={"patient": "newcomer"}) if study.patient == gone else study
        for study in manifest.studies
    ]
    write_manifest(folder, manifest.model_copy(update={"studies": tuple(moved)}))
    ask(site_file, make_task(round=2, task="train-2"), payload)
    assert PatientSlots.load(site.state / "runs" / "run-1" / "roster.json") == first
    ask(site_file, make_task(run="run-2"), payload)
    second = PatientSlots.load(site.state / "runs" / "run-2" / "roster.json")
    assert second.slots == ("newcomer", *first.slots[1:])


def test_who_withdrew_is_silent_from_the_next_round(
    edit: Callable[..., Path],
    site_file: Path,
    make_task: MakeTask,
    experiment: Experiment,
    payload: bytes,
) -> None:
    """The slot stays the patient's, and its groups contribute nothing."""
    ask(site_file, make_task(), payload)
    settings = load_site(site_file)
    raw = find(settings.data.adapter)(settings.data.source).studies
    (site_file.parent / "withdrawn.txt").write_text("\n".join(study.patient for study in raw[:4]))
    data = yaml.safe_load(site_file.read_text())["data"]
    path = edit(data=data | {"withdrawn": "withdrawn.txt"})
    gone = set().union(*(ids_of(settings.read_secret(), study.patient) for study in raw[:4]))
    private = PrivateRound(load_site(path), experiment, make_task(round=2, task="train-2"))
    pairs = SlotPairs(private.dataset, experiment, "alder", private.roster)
    silent = [slot for slot, studies in enumerate(pairs.slots) if not studies]
    assert [slot for slot, patient in enumerate(private.roster.slots) if patient in gone] == silent
    assert 0 < len(silent) < 8


def test_a_site_with_hardly_a_patient_does_not_join_and_spends_nothing(
    edit: Callable[..., Path],
    make_task: MakeTask,
    site_file: Path,
    small_config: Callable[..., Any],
    payload: bytes,
) -> None:
    wide = small_config(*PRIVACY, "privacy.slots=800").experiment()
    reply, _ = ask(site_file, make_task("describe", of=wide), b"")
    assert reply.status == ErrorCode.NO_STUDIES
    assert charged(site_file) == 0


def test_the_terms_of_a_private_experiment(
    edit: Callable[..., Path],
    site_file: Path,
    make_task: MakeTask,
    experiment: Experiment,
    payload: bytes,
) -> None:
    ask(site_file, make_task(), payload)
    budget, slots = review_private(load_site(site_file), experiment)
    spent = ledger(site_file).epsilon()
    assert f"epsilon 8 at delta 1e-05, {spent:.3f} already spent" in budget.allowed
    # Twice as many steps with the same noise as were planned for 6.
    assert 6 < float(budget.requested.split()[0]) < 8
    assert slots.requested == "8 of 8 slots filled, 0 % of the groups of 2 silent"
    assert budget.passes
    assert slots.passes
    (short, _) = review_private(load_site(edit(budget={"epsilon": 6})), experiment)
    assert (short.passes, short.code) == (False, ErrorCode.BUDGET)
    assert (
        list(
            review_private(
                load_site(site_file), experiment.model_copy(update={"privacy": PrivacyConfig()})
            )
        )
        == []
    )


def test_a_site_that_requires_privacy_does_nothing_without(
    edit: Callable[..., Path],
    small_config: Callable[..., Any],
    make_task: MakeTask,
    payload: bytes,
    experiment: Experiment,
) -> None:
    path = edit(policy={"require_privacy": True})
    plain = small_config().experiment()
    for kind in ("train", "evaluate", "describe"):
        reply, tensors = ask(path, make_task(kind, of=plain), payload)
        assert (reply.status, tensors) == (ErrorCode.POLICY_PRIVACY, b"")
    assert ask(path, make_task(of=experiment), payload)[0].status == "ok"


@pytest.mark.parametrize("budget", [{"epsilon": 0}, {"delta": 1.0}, {"epsilonn": 1}])
def test_an_impossible_budget(edit: Callable[..., Path], budget: dict[str, Any]) -> None:
    path = edit(budget=budget)
    with pytest.raises(Exception, match="budget"):
        load_site(path)


def test_spent_takes_no_impossible_figures() -> None:
    good = {
        "epsilon": 1.0,
        "replace_one": None,
        "delta": 1e-5,
        "steps": 1,
        "run_epsilon": 0.5,
        "run_steps": 1,
        "head": "0" * 64,
    }
    PrivacySpent.model_validate(good)
    for bad in ({"epsilon": -1}, {"head": "x"}, {"delta": 0}, {"note": "Mary"}):
        with pytest.raises(ValidationError):
            PrivacySpent.model_validate(good | bad)


def test_a_ledger_put_back_while_steps_of_its_round_are_on_the_disk_is_noticed(
    edit: Callable[..., Path],
    make_task: MakeTask,
    payload: bytes,
    small_config: Callable[..., Any],
) -> None:
    """The steps would go on after those on the disk, whose charges the ledger has lost."""
    site_file = edit(checkpoint_s=0)
    task = make_task(of=small_config(*PRIVACY, "federation.local_steps=4").experiment())

    def die(site: str, step: int) -> None:
        if step == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        answer(load_site(site_file), task.encode(), payload, die)
    path = ledger(site_file).path
    whole = path.read_bytes()
    assert charged(site_file) == 3
    path.write_bytes(whole.split(b"\n")[0] + b"\n")
    assert ask(site_file, task, payload)[0].status == ErrorCode.LEDGER
    path.write_bytes(whole)
    assert ask(site_file, task, payload)[0].status == "ok"
    # The third step was charged when it was interrupted, and again when it was taken.
    assert charged(site_file) == 5
