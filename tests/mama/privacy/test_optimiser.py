"""Sensitivity as the accountant assumes it, against adversarial gradients, and the noise."""

import math
from collections.abc import Sequence

import pytest
import torch
from opacus import GradSampleModule
from opacus.optimizers import DPOptimizer
from scipy import stats
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from mama.losses import clip_loss
from mama.privacy.noise import add_gaussian
from mama.privacy.optimiser import GroupwiseDPOptimizer

C = 0.7
ROUNDING = 1 + 1e-5  # of adding up and subtracting sums in float32
WIDTH = 6
SCALE = math.log(100.0)

Patient = tuple[Tensor, Tensor]


def optimiser(
    parameters: Sequence[nn.Parameter], z: float = 0.0, groups: float = 1.0, norm: float = C
) -> GroupwiseDPOptimizer:
    inner = torch.optim.SGD(parameters, lr=1.0)
    return GroupwiseDPOptimizer(
        inner, noise_multiplier=z, max_grad_norm=norm, expected_groups=groups
    )


def flat(gradients: Sequence[Tensor | None], like: Sequence[Tensor]) -> Tensor:
    return torch.cat(
        [
            (torch.zeros_like(p) if g is None else g).flatten().double()
            for g, p in zip(gradients, like, strict=True)
        ]
    )


def tower(seed: int = 0) -> nn.Linear:
    torch.manual_seed(seed)
    return nn.Linear(WIDTH, WIDTH, bias=False)


def contrast(module: nn.Module, patients: Sequence[Patient]) -> Tensor:
    images, texts = (torch.stack(part) for part in zip(*patients, strict=True))
    return clip_loss(module(images), texts, torch.tensor(SCALE))


def clipped_sum(module: nn.Linear, groups: Sequence[Sequence[Patient | None]]) -> Tensor:
    """Return the sum before noise, with one group after the other (zero-out adjacency)."""
    dp = optimiser(list(module.parameters()))
    dp.zero_grad()
    for group in groups:
        present = [patient for patient in group if patient is not None]
        if len(present) == len(group):
            dp.add_group(contrast(module, present))
    return flat([p.summed_grad for p in dp.params], dp.params)


def per_sample_clipped_sum(patients: Sequence[Patient]) -> Tensor:
    """Return the sum `PrivacyEngine` would add noise to: Opacus' per-sample gradients, clipped."""
    module = GradSampleModule(tower())
    dp = DPOptimizer(
        torch.optim.SGD(module.parameters(), lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=C,
        expected_batch_size=1,
    )
    contrast(module, patients).backward()
    dp.clip_and_accumulate()
    return flat([p.summed_grad for p in dp.params], dp.params)


def draw(random: torch.Generator) -> Patient:
    spread = 10 ** (4 * torch.rand(2, generator=random) - 2)
    return tuple(s * torch.randn(WIDTH, generator=random) for s in spread)  # type: ignore[return-value]


def hard_negatives(count: int) -> tuple[list[Patient], Patient]:
    """Equal images whose gradient flips when one patient's report replaces the nearest one."""
    up, side = torch.eye(WIDTH)[0], torch.eye(WIDTH)[1]
    image = torch.linalg.solve(tower().weight.detach(), up)
    plain = [(image, up + 0.4 * torch.eye(WIDTH)[2 + i % 4]) for i in range(count - 1)]
    return [*plain, (image, up - 0.2 * side)], (image, up + 0.15 * side)


@pytest.mark.parametrize("seed", range(4))
def test_a_patient_or_a_group_moves_the_sum_by_no_more_than_the_bound(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    replaced, dropped = [], []
    for _ in range(75):
        module = tower(seed)
        with torch.no_grad():
            module.weight.mul_(10 ** float(3 * torch.rand((), generator=random) - 1.5))
        groups = [[draw(random) for _ in range(5)] for _ in range(3)]
        whole = clipped_sum(module, groups)
        other = [[draw(random), *groups[0][1:]], *groups[1:]]
        replaced.append((clipped_sum(module, other) - whole).norm().item())
        empty: list = [[None, *groups[0][1:]], *groups[1:]]
        dropped.append((clipped_sum(module, empty) - whole).norm().item())
        assert torch.allclose(clipped_sum(module, groups[1:]), clipped_sum(module, empty))
    assert max(replaced) <= 2 * C * ROUNDING
    assert max(dropped) <= C * ROUNDING
    # The draws come near enough to the bounds for a wrong factor to show.
    assert max(replaced) > 1.1 * C
    assert max(dropped) > 0.999 * C


def test_the_bounds_are_reached_and_not_passed_in_the_worst_case() -> None:
    weight = nn.Parameter(torch.zeros(1000))
    direction = torch.randn(1000, generator=torch.Generator().manual_seed(1))
    for size in (1e-3, 1.0, 1e4, 1e12, 1e25):
        ends = []
        for sign in (1, -1):
            dp = optimiser([weight])
            dp.zero_grad()
            dp.add_group((weight * direction * sign * size).sum())
            ends.append(dp.params[0].summed_grad.double())
        expected = min(C, size * direction.norm().item())
        assert ends[0].norm().item() == pytest.approx(expected, rel=1e-5)
        assert ends[0].norm().item() <= C
        assert (ends[0] - ends[1]).norm().item() <= 2 * C
        assert (ends[0] - ends[1]).norm().item() == pytest.approx(2 * expected, rel=1e-5)


def test_one_norm_bounds_all_parameters_together() -> None:
    parts = [nn.Parameter(torch.zeros(50)) for _ in range(4)]
    dp = optimiser(parts)
    dp.zero_grad()
    dp.add_group(sum(((n + 1) * p).sum() for n, p in enumerate(parts)))  # type: ignore[arg-type]
    total = flat([p.summed_grad for p in parts], parts)
    assert total.norm().item() == pytest.approx(C, rel=1e-5)
    assert parts[3].summed_grad[0] / parts[0].summed_grad[0] == pytest.approx(4.0)


def test_clipping_single_studies_breaks_the_bound() -> None:
    """The trap that the groups are for: the harness above sees it."""
    random = torch.Generator().manual_seed(0)
    moved = []
    for _ in range(40):
        patients = [draw(random) for _ in range(48)]
        moved.append(
            (per_sample_clipped_sum(patients) - per_sample_clipped_sum(patients[1:])).norm()
        )
    assert max(moved) > 1.2 * C
    patients, newcomer = hard_negatives(64)
    worst = per_sample_clipped_sum([*patients, newcomer]) - per_sample_clipped_sum(patients)
    assert worst.norm() > 15 * C
    # The same patients as one group keep it.
    module = tower()
    both = [clipped_sum(module, [group]) for group in ([*patients, newcomer], [*patients, None])]
    assert (both[0] - both[1]).norm() <= C * ROUNDING


@pytest.mark.parametrize("value", [math.nan, math.inf, 3e38])
def test_a_group_without_a_usable_gradient_adds_nothing(value: float) -> None:
    weight, spared = nn.Parameter(torch.zeros(3)), nn.Parameter(torch.zeros(2))
    dp = optimiser([weight, spared], norm=1e-5)
    dp.zero_grad()
    dp.add_group((weight * torch.tensor([1.0, 2.0, 2.0])).sum())
    before = weight.summed_grad.clone()
    dp.add_group((weight * torch.tensor([0.0, value, 1.0])).sum() + spared.sum())
    assert torch.equal(weight.summed_grad, before)
    assert not spared.summed_grad.any()


def test_a_lost_group_leaves_the_others_to_the_last_bit() -> None:
    """Sums of usable groups, in any order with others, are those of a factor known to Python."""
    random = torch.Generator().manual_seed(2)
    weight = nn.Parameter(torch.zeros(1000))
    dp = optimiser([weight])
    dp.zero_grad()
    expected = torch.zeros(1000)
    for size in (math.inf, 1e-6, 3.0, math.nan, 1e4, 3e38, 1e12):
        gradient = size * torch.randn(1000, generator=random)
        dp.add_group((weight * gradient).sum())
        norm = math.sqrt(float(gradient.double().square().sum()))
        if math.isfinite(norm):
            expected.add_(gradient, alpha=min(1.0, C * (1 - 1e-6) / norm))
    assert torch.equal(weight.summed_grad, expected)


def test_a_group_is_added_without_waiting_for_the_device() -> None:
    """On tensors that have no values, so that nothing can depend on one."""
    with FakeTensorMode():
        weight = nn.Parameter(torch.zeros(30))
        dp = optimiser([weight])
        dp.zero_grad()
        for _ in range(2):
            dp.add_group((weight * 3).sum())
        assert weight.summed_grad.shape == (30,)


def test_noise_is_drawn_in_few_calls_whatever_the_number_of_parameters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a GPU a call takes milliseconds however small its tensor is."""
    sizes: list[int] = []

    def noted(total: Tensor, sigma: float) -> None:
        sizes.append(total.numel())
        add_gaussian(total, sigma)

    monkeypatch.setattr("mama.privacy.optimiser.add_gaussian", noted)
    parameters = [nn.Parameter(torch.zeros(3, 2)) for _ in range(200)]
    parameters += [nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(4, 6).T)]
    dp = optimiser(parameters, z=1.0)
    dp.zero_grad()
    dp.add_group(sum((n * p).sum() for n, p in enumerate(parameters)))  # type: ignore[arg-type]
    before = [p.summed_grad.clone() for p in parameters]
    dp.add_noise()
    assert sizes == [200 * 6 + 1 + 24]
    noise = [(p.grad - total).flatten() for p, total in zip(parameters, before, strict=True)]
    assert all(p.summed_grad is None and p.grad.shape == p.shape for p in parameters)
    assert len(torch.cat(noise).unique()) > 0.5 * sum(sizes)
    assert 0.8 < torch.cat(noise).std() / C < 1.2


def test_half_precision_gradients_are_added_in_single() -> None:
    weight = nn.Parameter(torch.zeros(4, dtype=torch.bfloat16))
    dp = optimiser([weight], norm=10.0)
    dp.zero_grad()
    for _ in range(300):
        dp.add_group((weight * 0.01).sum())
    assert weight.summed_grad.dtype == torch.float32
    # bfloat16 would stop at 2, where 0.01 is below its resolution.
    assert weight.summed_grad[0].item() == pytest.approx(3.0, rel=0.01)


def test_the_divisor_is_the_expected_number_of_groups() -> None:
    for count in (1, 5):
        weight = nn.Parameter(torch.zeros(2))
        dp = optimiser([weight], groups=2.5)
        dp.zero_grad()
        for _ in range(count):
            dp.add_group((weight * torch.tensor([0.3, 0.4])).sum())
        dp.step()
        assert weight.detach() == pytest.approx(-count * torch.tensor([0.3, 0.4]) / 2.5)


def noises(steps: int, size: int, z: float) -> Tensor:
    """The noise of empty lots, one row a step."""
    weight = nn.Parameter(torch.zeros(size))
    dp = optimiser([weight], z=z, groups=2.0)
    rows = []
    for _ in range(steps):
        before = weight.detach().clone()
        dp.zero_grad()
        dp.step()
        rows.append((before - weight.detach()) * 2.0)
    return torch.stack(rows).double()


def test_empty_lots_step_with_noise_of_the_right_size() -> None:
    z, steps, size = 1.7, 3000, 40
    rows = noises(steps, size, z)
    count, sigma, odds = rows.numel(), z * C, 1e-7
    # Exact: the sum of squares over sigma squared is chi-squared, the mean is normal.
    low, high = stats.chi2.ppf([odds, 1 - odds], count)
    assert low <= float((rows**2).sum()) / sigma**2 <= high
    assert abs(rows.mean().item()) <= stats.norm.isf(odds) * sigma / math.sqrt(count)
    # Coordinates and steps are independent: products of neighbours have mean 0.
    bound = stats.norm.isf(odds) * sigma**2
    assert abs((rows[1:] * rows[:-1]).mean().item()) <= bound / math.sqrt(count - size)
    assert abs((rows[:, 1:] * rows[:, :-1]).mean().item()) <= bound / math.sqrt(count - steps)
    assert stats.kstest(rows.flatten().numpy() / sigma, "norm").pvalue > odds


def test_noise_is_added_to_a_full_lot_too() -> None:
    weight = nn.Parameter(torch.zeros(20_000))
    dp = optimiser([weight], z=0.5)
    dp.zero_grad()
    dp.add_group(weight.sum())
    signal = weight.summed_grad.clone()
    dp.step()
    noise = -weight.detach() - signal
    low, high = stats.chi2.ppf([1e-7, 1 - 1e-7], noise.numel())
    assert low <= float((noise**2).sum()) / (0.5 * C) ** 2 <= high


def test_a_seed_does_not_repeat_the_noise() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append(noises(2, 100, 1.0))
    assert not torch.equal(drawn[0], drawn[1])
    # Values are on a grid, so a few are alike by chance.
    assert (drawn[0] == drawn[1]).sum() < 5
    assert len(torch.unique(torch.cat(drawn))) > 300


def test_no_generator_can_be_given() -> None:
    weight = nn.Parameter(torch.zeros(2))
    with pytest.raises(TypeError):
        GroupwiseDPOptimizer(
            torch.optim.SGD([weight]),
            noise_multiplier=1.0,
            max_grad_norm=1.0,
            expected_groups=1.0,
            generator=torch.Generator(),  # type: ignore[call-arg]
        )
