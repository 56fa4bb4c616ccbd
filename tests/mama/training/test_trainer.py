"""Local training: exact resumption, only trained weights change, non-finite losses stop it."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.errors import TrainingError
from mama.model import MaMA, build_model
from mama.training.objective import TERMS
from mama.training.trainer import MAX_SKIPPED, Trainer

CPU = torch.device("cpu")

Make = Callable[..., Trainer]


@pytest.fixture
def trainer(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Make:
    """A trainer of a new model of the tiny experiment with overrides."""

    def make(*overrides: str, stream: str = "site") -> Trainer:
        experiment = make_experiment(*overrides)
        model = build_model(experiment, base_models)
        return Trainer(model, StudyPairs(dataset, experiment, stream), experiment, CPU)

    return make


def weights(model: MaMA) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in model.named_parameters()}


def equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_training_resumes_to_the_bit(trainer: Make, tmp_path: Path) -> None:
    straight = trainer()
    straight.train(0, 4)
    first = trainer()
    first.train(0, 2)
    first.save(tmp_path / "optimiser")
    second = trainer("seed=3")
    second.model.load_state_dict(first.model.state_dict())
    torch.manual_seed(12345)  # a new process has drawn other numbers
    without_state = trainer()
    without_state.model.load_state_dict(first.model.state_dict())
    second.load(tmp_path / "optimiser")
    second.train(2, 2)
    without_state.train(2, 2)
    assert equal(weights(second.model), weights(straight.model))
    assert not equal(weights(without_state.model), weights(straight.model))


def test_streams_and_seeds_train_differently(trainer: Make) -> None:
    made = [trainer(), trainer(), trainer(stream="other")]
    for one in made:
        one.train(0, 2)
    assert equal(weights(made[0].model), weights(made[1].model))
    assert not equal(weights(made[0].model), weights(made[2].model))


def test_all_trained_parts_move_and_frozen_weights_do_not(trainer: Make) -> None:
    one = trainer("loss.local.start=0.2")
    start = weights(one.model)
    one.train(0, 2)
    before_local = weights(one.model)
    one.train(2, 4)
    end = weights(one.model)
    for name, parameter in one.model.named_parameters():
        assert torch.equal(start[name], end[name]) != parameter.requires_grad, name
        if (
            name.startswith(("patch_head.", "sentence_head.", "text.separator"))
            or name == "local_scale"
        ):
            late = name != "text.separator"  # the separator also reaches the other terms
            assert torch.equal(start[name], before_local[name]) == late, name
    trained = {name.split(".")[0] for name, p in one.model.named_parameters() if p.requires_grad}
    assert trained == {
        "image", "text", "image_projection", "text_projection", "view_head", "patch_head",
        "sentence_head", "logit_scale", "local_scale",
    }  # fmt: skip


@pytest.mark.parametrize("term", TERMS)
def test_each_term_changes_the_result(trainer: Make, term: str) -> None:
    starts = [f"loss.{name}.start=0" for name in TERMS]
    whole, without = trainer(*starts), trainer(*starts, f"loss.{term}.weight=0")
    records = [one.train(0, 2) for one in (whole, without)]
    assert not equal(weights(whole.model), weights(without.model))
    assert records[0].means().keys() - records[1].means().keys() == {term}
    assert records[0].means()["loss"] > records[1].means()["loss"] + 0.1


def test_weights_scale_terms(trainer: Make) -> None:
    plain = trainer("loss.local.start=0").train(0, 1).means()
    record = trainer(
        "loss.local.start=0", "loss.local.weight=2", "loss.image_text.weight=0.5"
    ).train(0, 1)
    means = record.means()
    assert {name: means[name] for name in TERMS} == pytest.approx(
        {name: plain[name] for name in TERMS}
    )
    expected = (
        0.5 * plain["image_text"] + plain["second_text"] + plain["image_image"] + 2 * plain["local"]
    )
    assert means["loss"] == pytest.approx(expected)
    assert plain["loss"] == pytest.approx(sum(plain[name] for name in TERMS))


def test_means_are_over_the_steps_a_term_took_part_in(trainer: Make) -> None:
    one = trainer("loss.local.start=0.2")  # step 2 of 10
    seen: list[int] = []
    record = one.train(1, 2, seen.append)
    assert (record.steps, record.skipped, seen) == (2, 0, [1, 2])
    assert [len(record.sums[name]) for name in ("image_text", "local", "loss")] == [2, 1, 2]
    assert record.means()["image_text"] == pytest.approx(sum(record.sums["image_text"]) / 2)
    assert record.seconds > 0


def test_weight_decay_is_for_matrices_alone(trainer: Make) -> None:
    one = trainer("optimiser.weight_decay=0.3")
    decays = {
        id(p): group["weight_decay"]
        for group in one.optimiser.param_groups
        for p in group["params"]
    }
    trained = {name: p for name, p in one.model.named_parameters() if p.requires_grad}
    assert len(decays) == len(trained)
    for name, parameter in trained.items():
        matrix = parameter.ndim >= 2 and not name.endswith("bias")
        assert decays[id(parameter)] == (0.3 if matrix else 0.0), name
    for name in ("logit_scale", "text.separator", "view_head.1.weight", "image_projection.bias"):
        assert decays[id(trained[name])] == 0.0
    assert decays[id(trained["image_projection.weight"])] == 0.3


def test_the_rate_follows_the_schedule(trainer: Make) -> None:
    one = trainer("optimiser.warmup=0.5", "optimiser.lr=0.01")
    one.train(1, 1)  # the second of five steps of warm-up
    assert [group["lr"] for group in one.optimiser.param_groups] == pytest.approx([0.004] * 2)


def test_logit_scales_are_limited(trainer: Make) -> None:
    one = trainer("loss.local.start=0", "loss.max_scale=5", "optimiser.lr=1.0e-6")
    one.train(0, 1)  # they start at 1 / 0.07
    assert one.model.logit_scale.exp().item() == pytest.approx(5)
    assert one.model.local_scale.exp().item() == pytest.approx(5)


def poisoned(trainer: Make) -> Trainer:
    one = trainer()
    with torch.no_grad():
        one.model.image_projection.bias[0] = math.nan
    return one


def test_steps_whose_loss_is_not_finite_are_skipped_and_counted(trainer: Make) -> None:
    one = poisoned(trainer)
    before = weights(one.model)
    record = one.train(0, 3)
    assert (record.steps, record.skipped, record.means()) == (0, 3, {})
    (line,) = record.warnings(1.0)
    assert line == "3 non-finite steps were skipped: image_text (3), second_text (3)"
    before.pop("image_projection.bias")
    after = weights(one.model)
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_too_many_of_them_end_the_training(trainer: Make) -> None:
    one = poisoned(trainer)
    assert one.train(0, MAX_SKIPPED).skipped == MAX_SKIPPED
    with pytest.raises(
        TrainingError, match=f"step {MAX_SKIPPED}: loss or gradient stays non-finite: image_text"
    ):
        one.train(0, MAX_SKIPPED + 1)


def test_a_gradient_that_is_not_finite_is_no_step_either(trainer: Make) -> None:
    one = trainer()
    before = weights(one.model)
    one.model.image_projection.bias.register_hook(lambda gradient: gradient * math.nan)
    record = one.train(0, 2)
    assert (record.skipped, record.not_finite) == (2, {"gradient": 2})
    assert equal(weights(one.model), before)


def test_it_learns_eight_studies(trainer: Make) -> None:
    one = trainer(
        "federation.rounds=30",
        "federation.local_steps=1",
        "optimiser.batch_size=8",
        "loss.local.start=0",
    )
    sums = one.train(0, 30).sums
    for name in TERMS:
        first, last = sum(sums[name][:3]) / 3, sum(sums[name][-3:]) / 3
        assert last < 0.9 * first, name
