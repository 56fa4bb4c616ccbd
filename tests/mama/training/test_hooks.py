"""FedProx and control variates by hand, alone and within training."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.model import build_model
from mama.training.hooks import ControlVariate, Frozen, GradientHook, Named, Proximal
from mama.training.trainer import Trainer


def parameters() -> list[tuple[str, nn.Parameter]]:
    """Two that train, one of which a step may leave without a gradient, and a frozen one."""
    named = [
        ("a", nn.Parameter(torch.tensor([1.0, 2.0]))),
        ("b", nn.Parameter(torch.tensor(3.0))),
        ("frozen", nn.Parameter(torch.ones(3), requires_grad=False)),
    ]
    named[0][1].grad = torch.tensor([0.5, 0.5])
    return named


def test_proximal_pulls_towards_the_weights_it_was_made_with() -> None:
    named = parameters()
    pull = Proximal(named, mu=0.1)
    pull(named)
    assert named[0][1].grad.tolist() == [0.5, 0.5]  # still there
    with torch.no_grad():
        named[0][1].add_(torch.tensor([2.0, -4.0]))
    pull(named)
    torch.testing.assert_close(named[0][1].grad, torch.tensor([0.7, 0.1]))
    assert named[1][1].grad is None
    named[1][1].grad = torch.tensor(1.0)
    pull(named)
    assert named[1][1].grad == 1


def test_proximal_is_the_gradient_of_half_mu_times_the_squared_distance() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = nn.Parameter(torch.randn(3, 4, generator=generator).double())
    anchor = weight.detach().clone()
    pull = Proximal([("w", weight)], mu=0.3)
    with torch.no_grad():
        weight += torch.randn(3, 4, generator=generator)
    weight.sin().sum().backward()
    pull([("w", weight)])
    found = weight.grad.clone()
    weight.grad = None
    (weight.sin().sum() + 0.3 / 2 * (weight - anchor).square().sum()).backward()
    torch.testing.assert_close(found, weight.grad)


def test_frozen_weights_are_not_kept_twice() -> None:
    assert Proximal(parameters(), 0.1).anchors.keys() == {"a", "b"}


def test_a_control_variate_is_added() -> None:
    named = parameters()
    shift = {"a": torch.tensor([1.0, -1.0], dtype=torch.float64), "b": torch.tensor(9.0)}
    correct = ControlVariate(shift)
    correct(named)
    assert named[0][1].grad.tolist() == [1.5, -0.5]
    assert named[0][1].grad.dtype == torch.float32
    assert named[1][1].grad is None
    correct(named)
    assert named[0][1].grad.tolist() == [2.5, -1.5]
    ControlVariate({})(named)
    assert named[0][1].grad.tolist() == [2.5, -1.5]
    assert shift["a"].tolist() == [1, -1]


def gradient_of(*values: float) -> list[tuple[str, nn.Parameter]]:
    named = [("w", nn.Parameter(torch.zeros(len(values))))]
    named[0][1].grad = torch.tensor(values, dtype=torch.float32)
    return named


def test_a_sites_new_variate_is_the_mean_of_its_uncorrected_gradients() -> None:
    variate = ControlVariate({"w": torch.tensor([100.0, 100.0])})
    variate(gradient_of(1, 8))
    variate(gradient_of(5, -2))
    assert variate.site_variate()["w"].tolist() == [3, 3]


def test_a_sites_new_variate_is_option_two_under_sgd() -> None:
    """c_site - c + (x - y) / (K lr) for K steps of SGD on a curved loss."""
    generator = torch.Generator().manual_seed(0)
    start, own, shared = torch.randn(3, 4, dtype=torch.float64, generator=generator)
    parameter = nn.Parameter(start.clone())
    sgd, variate = torch.optim.SGD([parameter], lr=0.05), ControlVariate({"w": shared - own})
    for _ in range(7):
        sgd.zero_grad()
        (parameter**4).sum().backward()
        variate([("w", parameter)])
        sgd.step()
    expected = own - shared + (start - parameter.detach()) / (7 * 0.05)
    torch.testing.assert_close(variate.site_variate()["w"], expected)


def test_a_step_that_is_skipped_leaves_the_variate_alone() -> None:
    variate = ControlVariate({})
    variate(gradient_of(1, math.nan))
    variate(gradient_of(1, 2))
    variate(gradient_of(1, math.inf))
    assert variate.site_variate()["w"].tolist() == [1, 2]


def test_frozen_weights_are_neither_moved_nor_decayed_until_they_thaw() -> None:
    moved, still = (nn.Parameter(torch.ones(1)) for _ in range(2))
    adam = torch.optim.AdamW([moved, still], lr=0.1, weight_decay=0.5)
    for names in ({"still"}, {"still"}, set()):
        before = still.item()
        moved.grad, still.grad = torch.ones(1), torch.ones(1)
        Frozen(names)([("moved", moved), ("still", still)])
        adam.step()
        assert (still.item() == before) == bool(names)
    assert moved < still < 1


Gradients = dict[str, torch.Tensor]


class Record:
    """A correction that changes nothing but keeps gradients and weights."""

    def __init__(self) -> None:
        self.gradients: list[Gradients] = []
        self.weights: list[Gradients] = []

    def __call__(self, parameters: Named) -> None:
        self.gradients.append({n: p.grad.clone() for n, p in parameters if p.grad is not None})
        self.weights.append({n: p.detach().clone() for n, p in parameters})


@pytest.fixture
def train(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Callable[..., Gradients]:
    """Weights after two steps with corrections that are made from the model's parameters."""

    def run(*make: Callable[[Named], GradientHook]) -> Gradients:
        experiment = make_experiment("optimiser.warmup=0")
        model = build_model(experiment, base_models)
        named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
        pairs = StudyPairs(dataset, experiment, "site")
        corrections = [one(named) for one in make]
        Trainer(model, pairs, experiment, torch.device("cpu"), corrections).train(0, 2)
        return {n: p.detach().clone() for n, p in named}

    return run


def test_training_adds_what_proximal_says(train: Callable[..., Gradients]) -> None:
    before, after = Record(), Record()
    with_pull = train(lambda _: before, lambda named: Proximal(named, mu=2.0), lambda _: after)
    for name, gradient in before.gradients[1].items():
        drift = before.weights[1][name] - before.weights[0][name]
        torch.testing.assert_close(after.gradients[1][name], gradient + 2 * drift)
    assert any(
        not torch.equal(before.gradients[1][n], after.gradients[1][n]) for n in before.gradients[1]
    )
    # The first step starts at the global weights, so nothing pulls.
    assert all(
        torch.equal(before.gradients[0][n], after.gradients[0][n]) for n in before.gradients[0]
    )
    without = train()
    assert any(not torch.equal(with_pull[n], without[n]) for n in without)


def test_training_adds_the_control_variate(train: Callable[..., Gradients]) -> None:
    before, after = Record(), Record()
    generator = torch.Generator().manual_seed(0)
    shift: Gradients = {}

    def make(named: Named) -> GradientHook:
        shift.update({n: torch.randn(p.shape, generator=generator) for n, p in named})
        return ControlVariate(shift)

    train(lambda _: before, make, lambda _: after)
    for step in range(2):
        for name, gradient in before.gradients[step].items():
            torch.testing.assert_close(after.gradients[step][name], gradient + shift[name])


def test_corrections_that_change_nothing_leave_training_as_it_is(
    train: Callable[..., Gradients],
) -> None:
    plain = train()
    neutral = train(lambda named: Proximal(named, 0.0), lambda _: ControlVariate({}))
    assert all(torch.equal(plain[name], neutral[name]) for name in plain)
