"""Private training of the real model: one group per patient, and no step without a charge."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from mama.config import Experiment
from mama.data.manifest import Dataset, read_manifest, write_manifest
from mama.data.studies import Sentence
from mama.errors import BudgetError, ConfigError
from mama.model import build_model
from mama.privacy.accounting import rdp_epsilon
from mama.privacy.groups import SlotPairs, described_images
from mama.privacy.slots import PatientSlots
from mama.privacy.training import PrivateTrainer
from mama.training.diagnostics import TrainingRecord
from mama.training.standalone import train

CPU = torch.device("cpu")
C = 0.05
PRIVACY = {
    "mode": "patient", "epsilon": 8, "delta": 1e-5, "group_size": 2, "sample_rate": 0.5,
    "max_grad_norm": C, "slots": 6,
}  # fmt: skip
PATIENTS = ("p1", "p2", "p3", "p4", "p5", "p6")


class Book:
    """A ledger that remembers."""

    def __init__(self, allowed: int = 1000):
        self.allowed, self.charged = allowed, list[tuple[int, float, float]]()

    def require_budget(self, steps: int, noise_multiplier: float, sample_rate: float) -> None:
        if steps > self.allowed:
            raise BudgetError("too much")

    def reserve(self, step: int, noise_multiplier: float, sample_rate: float) -> None:
        self.charged.append((step, noise_multiplier, sample_rate))


@pytest.fixture
def private(values: dict[str, Any]) -> Callable[..., Experiment]:
    def make(**sections: Any) -> Experiment:
        return Experiment.model_validate({**values, "privacy": PRIVACY, **sections})

    return make


@pytest.fixture
def trainer(
    private: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Callable[..., PrivateTrainer]:
    """A private trainer of a new model."""

    def make(
        slots: tuple[str | None, ...] = PATIENTS,
        *,
        book: Book | None = None,
        data: Dataset = dataset,
        **sections: Any,
    ) -> PrivateTrainer:
        experiment = private(**sections)
        pairs = SlotPairs(data, experiment, "site", PatientSlots(slots))
        model = build_model(experiment, base_models)
        return PrivateTrainer(model, pairs, experiment, CPU, book or Book())

    return make


def weights(one: PrivateTrainer) -> Tensor:
    return torch.cat([p.detach().flatten().clone() for _, p in one.parameters])


def clipped_sum(one: PrivateTrainer, draw: list[list[int]], step: int = 0) -> Tensor:
    """Return the sum before noise of a step with this draw."""
    caught: list[Tensor] = []

    def catch() -> None:
        one.private.accumulate()
        caught.append(torch.cat([p.summed_grad.flatten().double() for _, p in one.parameters]))

    one.sampler.draw = lambda: draw  # type: ignore[method-assign]
    one.private.step = catch  # type: ignore[method-assign, assignment]
    for _ in one.steps(range(step, step + 1), TrainingRecord()):
        pass
    return caught[0]


def blanked(patient: str) -> tuple[str | None, ...]:
    return tuple(None if p == patient else p for p in PATIENTS)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_patient_changes_its_own_groups_part_and_nothing_else(
    trainer: Callable[..., PrivateTrainer], rows: int
) -> None:
    draw = [[0, 1], [2, 3], [4, 5]][:rows]
    whole = clipped_sum(trainer(), draw)
    for member in ("p1", "p2"):
        without = clipped_sum(trainer(blanked(member)), draw)
        moved = (whole - without).norm().item()
        # Exactly its group's part: the later groups draw the same dropout as before.
        assert moved == pytest.approx(C, rel=1e-4)
        assert moved <= C * (1 + 1e-5)
    other = clipped_sum(trainer(("p7", *PATIENTS[1:])), draw)
    assert 0 < (whole - other).norm().item() <= 2 * C * (1 + 1e-5)


def test_the_loss_is_the_whole_objective_of_the_group(
    trainer: Callable[..., PrivateTrainer],
) -> None:
    starts = {name: {"start": 0} for name in ("image_text", "second_text", "image_image", "local")}
    one = trainer(loss=starts)
    assert clipped_sum(one, [[0, 1]]).norm().item() == pytest.approx(C, rel=1e-4)
    touched = {name for name, p in one.parameters if p.summed_grad.abs().sum() > 0}
    late = {name for name, _ in one.parameters if name.startswith(("patch_head", "sentence_head"))}
    assert late
    assert touched >= late | {"logit_scale", "local_scale", "image_projection.weight"}
    plain = trainer()
    clipped_sum(plain, [[0, 1]])
    assert not late & {name for name, p in plain.parameters if p.summed_grad.abs().sum() > 0}


@pytest.mark.parametrize(
    "sections",
    [
        {"compute": {"checkpointing": True}},
        {"compute": {"precision": "bf16"}},
        {"image.lora": {"rank": 2, "dropout": 0.1, "targets": ["qkv"]}},
        {"image.trained_blocks": 0},
    ],
)
def test_it_works_however_the_model_is_trained(
    trainer: Callable[..., PrivateTrainer], values: dict[str, Any], sections: dict[str, Any]
) -> None:
    image = {k.removeprefix("image."): v for k, v in sections.items() if k.startswith("image.")}
    others = {k: v for k, v in sections.items() if not k.startswith("image.")}
    one = trainer(image=values["image"] | image, **others)
    frozen = [p.clone() for p in one.model.parameters() if not p.requires_grad]
    assert clipped_sum(one, [[0, 1]]).norm().item() == pytest.approx(C, rel=1e-4)
    assert {p.summed_grad.dtype for _, p in one.parameters} == {torch.float32}
    after = trainer(image=values["image"] | image, **others)
    after.train(0, 1)
    left = [p for p in after.model.parameters() if not p.requires_grad]
    assert all(torch.equal(*pair) for pair in zip(frozen, left, strict=True))


def stored(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.fixture(
    params=[
        b"\x93NUMPY", b"", b"PK\x03\x04", stored(np.zeros((4, 4, 3), np.uint8)),
        stored(np.zeros((0, 0), np.uint8)), stored(np.zeros((4, 4))),
    ],
    ids=["cut", "empty", "zip", "rank", "size", "dtype"],
)  # fmt: skip
def damaged(request: pytest.FixtureRequest) -> bytes:
    return request.param


@pytest.fixture
def torn_dataset(dataset: Dataset, tmp_path: Path, damaged: bytes) -> Dataset:
    """A dataset where p1's images are missing, p2's are damaged and p3's report is empty."""
    folder = tmp_path / "torn"
    shutil.copytree(dataset.folder, folder)
    manifest = read_manifest(folder)
    studies = []
    for study in manifest.studies:
        for image in study.images:
            if study.patient == "p1":
                (folder / "images" / f"{image.id}.npy").unlink()
            if study.patient == "p2":
                (folder / "images" / f"{image.id}.npy").write_bytes(damaged)
        empty = study.patient == "p3"
        studies.append(study.model_copy(update={"sentences": ()}) if empty else study)
    write_manifest(folder, manifest.model_copy(update={"studies": tuple(studies)}))
    return Dataset(folder)


def test_a_group_with_a_slot_that_gives_nothing_is_silent(
    trainer: Callable[..., PrivateTrainer], torn_dataset: Dataset
) -> None:
    for slot, patient in ((0, "p1"), (1, "p2"), (2, "p3")):
        one = trainer(data=torn_dataset)
        assert clipped_sum(one, [[slot, 4]]).abs().sum() == 0, patient
    record = TrainingRecord()
    one = trainer(("p4", None, "nobody", "p5", "p6", "p7"))
    one.sampler.draw = lambda: [[0, 1], [2, 3], [4, 5]]  # type: ignore[method-assign]
    list(one.steps(range(1), record))
    assert (record.lost, len(record.sums["loss"]), record.steps) == (2, 1, 1)
    assert record.remarks() == ["2 groups had an empty or unreadable slot and contributed nothing"]


def test_only_views_with_words_are_drawn(
    private: Callable[..., Experiment], dataset: Dataset, tmp_path: Path
) -> None:
    folder = tmp_path / "one-sided"
    shutil.copytree(dataset.folder, folder)
    manifest = read_manifest(folder)
    studies = [
        s.model_copy(
            update={"sentences": (Sentence(text="Left breast: a mass.", side="L", section=None),)}
        )
        for s in manifest.studies
    ]
    write_manifest(folder, manifest.model_copy(update={"studies": tuple(studies)}))
    sided = [s for s in Dataset(folder).studies("train") if described_images(s)]
    assert sided
    assert {image.laterality for s in sided for image in described_images(s)} <= {"L", None}
    roster = PatientSlots(tuple({s.patient for s in sided}))
    pairs = SlotPairs(Dataset(folder), private(), "site", roster)
    for step in range(20):
        batch = pairs.group(step, list(range(len(roster.slots))))
        assert batch is not None
        assert all(batch.reports)


def test_a_group_that_is_not_finite_is_silent(trainer: Callable[..., PrivateTrainer]) -> None:
    one = trainer()
    one.model.image_projection.bias.register_hook(lambda gradient: gradient * np.nan)
    assert clipped_sum(one, [[0, 1], [2, 3]]).abs().sum() == 0


def test_every_step_is_paid_before_it_runs(trainer: Callable[..., PrivateTrainer]) -> None:
    book = Book()
    one = trainer(book=book)
    before: list[Tensor] = []
    real = one.private.step

    def step() -> None:
        before.append(weights(one))
        assert len(book.charged) == len(before)
        real()

    one.private.step = step  # type: ignore[method-assign, assignment]
    record = one.train(3, 4)
    assert [n for n, _, _ in book.charged] == [3, 4, 5, 6]
    (z, q) = {charge[1:] for charge in book.charged}.pop()
    assert (record.steps, record.skipped, q) == (4, 0, 0.5)
    assert rdp_epsilon([(z, q, one.experiment.total_steps)], 1e-5) == pytest.approx(8, abs=0.02)


def test_a_budget_too_small_takes_no_step(trainer: Callable[..., PrivateTrainer]) -> None:
    book = Book(allowed=3)
    one = trainer(book=book)
    before = weights(one)
    with pytest.raises(BudgetError):
        one.train(0, 4)
    assert book.charged == []
    assert torch.equal(weights(one), before)


def test_an_empty_lot_is_a_step(trainer: Callable[..., PrivateTrainer]) -> None:
    one = trainer()
    one.sampler.draw = lambda: []  # type: ignore[method-assign]
    before = weights(one)
    record = one.train(0, 1)
    assert record.steps == 1
    moved = {name for name, p in one.parameters if p.grad is not None and p.grad.abs().sum() > 0}
    assert moved == {name for name, _ in one.parameters}
    assert not torch.equal(weights(one), before)


def test_no_two_runs_are_alike(trainer: Callable[..., PrivateTrainer]) -> None:
    ends = []
    for _ in range(2):
        one = trainer()
        one.sampler.draw = lambda: [[0, 1]]  # type: ignore[method-assign]
        one.train(0, 1)
        ends.append(weights(one))
    assert not torch.equal(*ends)


def test_state_is_kept_from_round_to_round(
    trainer: Callable[..., PrivateTrainer], tmp_path: Path
) -> None:
    one, other = trainer(), trainer()
    one.train(0, 2)
    one.save(tmp_path / "state")
    other.load(tmp_path / "state")
    kept, taken = one.optimiser.state_dict()["state"], other.optimiser.state_dict()["state"]
    assert kept.keys() == taken.keys()
    assert all(torch.equal(kept[k]["exp_avg"], taken[k]["exp_avg"]) for k in kept)


def test_it_learns_where_the_noise_is_small(trainer: Callable[..., PrivateTrainer]) -> None:
    whole = {**PRIVACY, "sample_rate": 1.0, "max_grad_norm": 5.0}
    start = {"local": {"start": 0}}
    one = trainer(privacy=whole, loss=start, federation={"rounds": 30, "local_steps": 1})
    one.private.noise_multiplier = 1e-4
    losses = one.train(0, 30).sums["loss"]
    third = len(losses) // 3
    assert sum(losses[-third:]) < 0.95 * sum(losses[:third])


@pytest.mark.parametrize(
    ("sections", "reason"),
    [
        ({"compute": {"precision": "fp16"}}, "loss scale"),
        ({"compute": {"chunk": 2}}, "computed as a whole"),
        ({"heads": {"norm": "batch"}}, "running statistics"),
        ({"optimiser": {"accumulate": 2}}, "one Poisson sample"),
        ({"federation": {"evaluate_every": 2}}, "not noised"),
        ({"participation": {"budget_s": 60}}, "groups drawn"),
        ({"strategy": {"weights": "patients"}}, "depend on the data"),
        ({"strategy": {"weights": "steps"}}, "depend on the data"),
        ({"strategy": {"fairness": 1}}, "depend on the data"),
        ({"strategy": {"scaffold": True}}, "control variates"),
        ({"strategy": {"guidance": 1}}, "guidance"),
        ({"privacy": {**PRIVACY, "slots": 7}}, "multiple"),
        ({"privacy": {**PRIVACY, "group_size": 1}}, "greater than or equal to 2"),
        ({"privacy": {**PRIVACY, "noise_seed": 1}}, "Extra inputs"),
    ],
)
def test_what_would_break_the_bound_is_refused(
    private: Callable[..., Experiment], sections: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ValidationError, match=reason):
        private(**sections)
    if "privacy" not in sections:  # without privacy it is allowed
        private(**sections, privacy={"mode": "none"})


def test_a_model_with_running_statistics_is_refused(
    private: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> None:
    experiment = private()
    pairs = SlotPairs(dataset, experiment, "site", PatientSlots(PATIENTS))
    model = build_model(experiment, base_models)
    model.view_head.append(nn.BatchNorm1d(16))
    with pytest.raises(ConfigError, match="running statistics"):
        PrivateTrainer(model, pairs, experiment, CPU, Book())


def test_privacy_needs_a_site(
    private: Callable[..., Experiment], dataset: Dataset, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="ledger of a site"):
        train(private(), dataset, tmp_path / "run", device=CPU)
    assert not (tmp_path / "run").exists()


def test_no_privacy_is_the_default(values: dict[str, Any]) -> None:
    experiment = Experiment.model_validate(values)
    assert experiment.privacy.mode == "none"
    assert json.loads(experiment.canonical_json())["privacy"]["mode"] == "none"
