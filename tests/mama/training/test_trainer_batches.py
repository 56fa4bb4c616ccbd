"""Steps of several batches, in chunks and in lower precision; memory that runs short."""

import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, Share, StudyPairs, whole
from mama.errors import ConfigError, TrainingError
from mama.model import build_model
from mama.training.gradient import add_gradient
from mama.training.hooks import Named
from mama.training.objective import TERMS
from mama.training.trainer import MAX_SKIPPED, Trainer

CPU = torch.device("cpu")
ALL_TERMS = "loss.local.start=0"
CALM = "text.lora.dropout=0"

Weights = dict[str, Tensor]
Make = Callable[..., Trainer]


class Recorder:
    """A correction that changes nothing and keeps each step's gradient."""

    def __init__(self) -> None:
        self.steps: list[Weights] = []

    def __call__(self, parameters: Named) -> None:
        self.steps.append({n: p.grad.clone() for n, p in parameters if p.grad is not None})


class OneBatch(StudyPairs):
    """The same batch at every step."""

    def batch(self, step: int, share: Share = whole) -> Batch:
        return super().batch(0, share)


@pytest.fixture
def trainer(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Make:
    """A trainer of a new model of the tiny experiment with all terms and with overrides."""

    def make(
        *overrides: str, correct: Sequence[Recorder] = (), pairs: type[StudyPairs] = StudyPairs
    ) -> Trainer:
        experiment = make_experiment(ALL_TERMS, *overrides)
        model = build_model(experiment, base_models)
        with torch.no_grad():  # LoRA starts at zero, where dropout changes nothing
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.add_(
                        torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
                    )
        return Trainer(model, pairs(dataset, experiment, "site"), experiment, CPU, correct)

    return make


def weights(one: Trainer) -> Weights:
    return {name: value.detach().clone() for name, value in one.parameters}


def equal(first: Weights, second: Weights) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def assert_near(found: Weights, expected: Weights) -> None:
    """Equal gradients but for fp32 rounding, relative to each parameter's largest entry."""
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = max(float(gradient.abs().max()), 1e-4)
        assert (found[name] - gradient).abs().max() < 1e-4 * scale, name


# Accumulation


def test_equal_batches_add_up_to_the_gradient_of_one(trainer: Make) -> None:
    once, thrice = Recorder(), Recorder()
    first = trainer(CALM, correct=[once], pairs=OneBatch).train(0, 1)
    second = trainer(CALM, "optimiser.accumulate=3", correct=[thrice], pairs=OneBatch).train(0, 1)
    assert_near(thrice.steps[0], once.steps[0])
    assert second.means() == pytest.approx(first.means())
    assert {len(values) for values in second.sums.values()} == {1}
    assert second.health.figures() == pytest.approx(first.health.figures(), rel=1e-4)


def test_a_step_takes_the_mean_over_its_own_batches(trainer: Make) -> None:
    recorder = Recorder()
    one = trainer(CALM, "optimiser.accumulate=2", "optimiser.batch_size=3", correct=[recorder])
    before = weights(one)
    expected, numbers = [], []
    for batch in (4, 5):  # of step 2
        one.model.zero_grad()
        values, _ = add_gradient(
            one.model.train(),
            one.pairs.batch(batch),
            one.experiment.loss,
            TERMS,
            autocast=nullcontext,
        )
        numbers.append({name: value.item() for name, value in values.items()})
        expected.append({n: p.grad.clone() for n, p in one.parameters})
    assert equal(weights(one), before)
    record = one.train(2, 1)
    mean = {name: (expected[0][name] + expected[1][name]) / 2 for name in before}
    assert_near(recorder.steps[0], mean)
    for name in (*TERMS, "loss"):
        assert numbers[0][name] != pytest.approx(numbers[1][name])
        assert record.means()[name] == pytest.approx((numbers[0][name] + numbers[1][name]) / 2)


def test_batches_of_one_step_have_dropout_of_their_own(trainer: Make) -> None:
    same = [trainer(f"optimiser.accumulate={n}", pairs=OneBatch).train(0, 1) for n in (1, 2)]
    assert same[0].means()["image_text"] != same[1].means()["image_text"]


@pytest.mark.parametrize("overrides", [("optimiser.accumulate=2",), ("compute.chunk=2",)])
def test_training_in_pieces_resumes_to_the_bit(
    trainer: Make, tmp_path: Path, overrides: tuple[str, ...]
) -> None:
    """A batch of three, so that passes over eight patients end within steps."""
    overrides = (*overrides, "optimiser.batch_size=3")
    straight, first, second = (trainer(*overrides) for _ in range(3))
    straight.train(0, 4)
    first.train(0, 3)
    first.save(tmp_path / "optimiser")
    second.model.load_state_dict(first.model.state_dict())
    second.load(tmp_path / "optimiser")
    torch.manual_seed(12345)
    second.train(3, 1)
    assert equal(weights(second), weights(straight))


def test_one_bad_batch_spoils_its_step_alone(trainer: Make) -> None:
    class Spoilt(StudyPairs):
        def batch(self, step: int, share: Share = whole) -> Batch:
            made = super().batch(step, share)
            if step == 3:
                made.first[0] = torch.nan
            return made

    one = trainer("optimiser.accumulate=2", pairs=Spoilt)
    one.train(0, 1)
    before = weights(one)
    record = one.train(1, 1)
    assert (record.steps, record.skipped, record.health) == (0, 1, None)
    assert equal(weights(one), before)
    (line,) = record.warnings(0.0)
    assert line.startswith("1 non-finite steps were skipped: image_text (1), ")
    assert one.train(2, 1).steps == 1
    assert not equal(weights(one), before)


# Chunks


def test_chunks_give_the_gradient_of_the_whole_batch(trainer: Make) -> None:
    plain, chunked, checkpointed = Recorder(), Recorder(), Recorder()
    records = [
        trainer(CALM, correct=[plain]).train(0, 1),
        trainer(CALM, "compute.chunk=3", correct=[chunked]).train(0, 1),
        trainer(
            CALM, "compute.chunk=2", "compute.checkpointing=true", correct=[checkpointed]
        ).train(0, 1),
    ]
    for recorder, record in zip((chunked, checkpointed), records[1:], strict=True):
        assert_near(recorder.steps[0], plain.steps[0])
        assert record.means() == pytest.approx(records[0].means(), rel=1e-5)
        assert record.chunk is None


def test_checkpointing_repeats_dropout_within_chunks(trainer: Make) -> None:
    plain, checkpointed = Recorder(), Recorder()
    trainer("compute.chunk=2", correct=[plain]).train(0, 1)
    trainer("compute.chunk=2", "compute.checkpointing=true", correct=[checkpointed]).train(0, 1)
    assert_near(checkpointed.steps[0], plain.steps[0])


# Memory


def limit(one: Trainer, images: int) -> None:
    """Memory runs out when the image tower sees more images than this."""

    def check(_: object, seen: tuple[Tensor]) -> None:
        if len(seen[0]) > images:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    one.model.image.register_forward_pre_hook(check)


@pytest.mark.parametrize(
    ("chunk", "fits", "found"), [("null", 2, 2), ("null", 1, 1), ("3", 2, 1), ("7", 3, 2)]
)
@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_chunk_that_does_not_fit_is_halved(
    trainer: Make, chunk: str, fits: int, found: int, accumulate: int
) -> None:
    accumulation = f"optimiser.accumulate={accumulate}"
    short = trainer(f"compute.chunk={chunk}", accumulation)
    limit(short, fits)
    record = short.train(0, 2)
    expected = trainer(f"compute.chunk={found}", accumulation)
    plain = expected.train(0, 2)
    assert equal(weights(short), weights(expected))
    assert record.sums == plain.sums
    assert (record.steps, record.skipped, record.truncated, record.blank) == (2, 0, 0, 0)
    assert (record.chunk, plain.chunk) == (found, None)
    assert record.warnings(0.0) == [f"memory was short: compute.chunk was lowered to {found}"]
    assert plain.warnings(0.0) == []
    assert short.train(2, 1).chunk == found  # not tried again


def test_memory_that_runs_short_within_a_step_starts_the_step_again(trainer: Make) -> None:
    """In the second batch's backward encoding: what the first batch added must not count twice."""
    short = trainer("optimiser.accumulate=2", "compute.chunk=3")
    calls: list[int] = []

    def check(_: object, seen: tuple[Tensor]) -> None:
        calls.append(len(seen[0]))
        if len(calls) == 14:
            raise torch.OutOfMemoryError("CUDA out of memory.")

    short.model.image.register_forward_pre_hook(check)
    short.train(0, 1)
    assert len(calls) == 14 + 2 * 16
    expected = trainer("optimiser.accumulate=2", "compute.chunk=1")
    expected.train(0, 1)
    assert equal(weights(short), weights(expected))


def test_a_failed_attempt_is_freed_before_the_next(trainer: Make) -> None:
    one = trainer()
    kept: list[weakref.ref[Tensor]] = []
    alive: list[bool] = []

    def before(_: object, seen: tuple[Tensor]) -> None:
        if len(seen[0]) > 2 and kept:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        alive.append(any(reference() is not None for reference in kept))

    def after(_: object, seen: tuple[Tensor], features: tuple[Tensor, ...]) -> None:
        kept.append(weakref.ref(features[0]))

    one.model.image.register_forward_pre_hook(before)
    one.model.image.register_forward_hook(after)
    one.train(0, 1)
    assert one.chunk == 2
    assert alive[:2] == [False, False]  # the first attempt's start, and the second's


@pytest.mark.parametrize("override", ["compute.chunk=null", "compute.chunk=1", "heads.norm=batch"])
def test_memory_too_small_for_the_least_chunk_ends_in_one_line(
    trainer: Make, override: str
) -> None:
    one = trainer(override)
    limit(one, 2 if "norm" in override else 0)  # batch statistics are not divided
    before = weights(one)
    with pytest.raises(TrainingError) as caught:
        one.train(0, 1)
    said = str(caught.value)
    assert said.startswith("compute.chunk: the device has too little memory for this step. ")
    assert "\n" not in said
    assert caught.value.__suppress_context__
    assert equal(weights(one), before)


def test_batch_statistics_are_not_divided_into_chunks(trainer: Make) -> None:
    with pytest.raises(ConfigError, match=r"heads\.norm: batch statistics need the whole batch"):
        trainer("heads.norm=batch", "compute.chunk=2")
    record = trainer("heads.norm=batch", "optimiser.accumulate=2").train(0, 2)
    assert record.steps == 2


# Precision


def test_bf16_changes_rounding_alone_and_keeps_weights_in_fp32(trainer: Make) -> None:
    plain = trainer(CALM).train(0, 1).means()
    one = trainer(CALM, "compute.precision=bf16")
    before = weights(one)
    record = one.train(0, 1)
    assert record.means() == pytest.approx(plain, rel=0.02)
    assert record.means() != pytest.approx(plain, rel=1e-6)
    after = weights(one)
    assert {value.dtype for value in after.values()} == {torch.float32}
    states = one.optimiser.state.values()
    assert {s.dtype for state in states for s in state.values()} == {torch.float32}
    # In bf16 a weight of 0.1 would move by 0.0005 or not at all.
    moved = (after["image_projection.weight"] - before["image_projection.weight"]).abs()
    assert (moved > 0).float().mean() > 0.95


def test_fp16_steps_count_only_where_the_gradient_is_finite(trainer: Make) -> None:
    one = trainer(CALM, "compute.precision=fp16")
    record = one.train(0, 3)
    plain = trainer(CALM).train(0, 1).means()
    assert record.steps + record.skipped == 3
    if record.steps == 3:
        assert record.sums["loss"][0] == pytest.approx(plain["loss"], rel=0.02)
    scale = one.scaler.get_scale()
    before = weights(one)
    one.model.image_projection.bias.register_hook(lambda gradient: gradient * torch.inf)
    record = one.train(3, 2)
    assert (record.steps, record.skipped) == (0, 2)
    assert one.scaler.get_scale() == scale / 4
    assert equal(weights(one), before)
    with pytest.raises(TrainingError, match=r"loss or gradient stays non-finite.*fp32"):
        one.train(5, MAX_SKIPPED + 1)


# Remarks


def test_blank_images_and_cut_reports_are_counted(trainer: Make) -> None:
    class Blank(StudyPairs):
        def batch(self, step: int, share: Share = whole) -> Batch:
            made = super().batch(step, share)
            made.first[0] = made.second[0] = made.second[1] = -1
            return made

    one = trainer("text.max_tokens=8", "optimiser.batch_size=8", "compute.chunk=3", pairs=Blank)
    cut = sum(one.model.text.tokenise(one.pairs.batch(n).reports).truncated for n in range(2))
    assert cut > 0
    record = one.train(0, 2)
    assert (record.blank, record.truncated) == (6, cut)
    assert record.remarks() == [
        f"{cut} reports were truncated at text.max_tokens",
        "6 images without tissue were encoded whole",
    ]


def test_collapse_is_warned_of(trainer: Make) -> None:
    one = trainer()
    assert one.train(0, 1).warnings(0.0) == []
    with torch.no_grad():
        one.model.image_projection.weight.zero_()
        one.model.image_projection.bias.fill_(1)
    (line,) = one.train(1, 1).warnings(0.0)
    assert line.startswith("image embeddings have collapsed")


def test_a_training_that_fails_leaves_no_thread(
    trainer: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(StudyPairs):
        def batches(
            self, steps: range, *, workers: int = 0, **named: Any
        ) -> Generator[Batch, None, None]:
            return super().batches(steps, workers=2, **named)

    one = trainer(pairs=Ahead)
    limit(one, 0)
    with pytest.raises(TrainingError) as caught:
        one.train(0, 3)
    assert caught.value.__traceback__ is not None  # which holds the frames, and so the generator
    assert not [t for t in threading.enumerate() if t.name.startswith("batches")]


def test_weight_decay_on_everything_as_the_paper_has_it(trainer: Make) -> None:
    one = trainer("optimiser.decay_everything=true", "optimiser.weight_decay=0.3")
    decays = {
        id(p): group["weight_decay"]
        for group in one.optimiser.param_groups
        for p in group["params"]
    }
    assert set(decays) == {id(p) for _, p in one.parameters}
    assert set(decays.values()) == {0.3}
    assert one.train(0, 1).steps == 1


def test_figures_are_numbers_that_can_be_written(trainer: Make) -> None:
    figures = trainer().train(0, 2).health.figures()
    assert all(np.isfinite(value) for value in figures.values())
    assert 0 < figures["tissue_patches"] <= 16
    # Before the local term starts the patches are counted all the same.
    early = trainer("loss.local.start=1").train(0, 1)
    assert "local" not in early.sums
    assert early.health.tissue_patches > 0
