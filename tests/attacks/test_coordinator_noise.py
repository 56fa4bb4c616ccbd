"""Released sums, read by a coordinator: do they betray the generator or a patient for certain?

The released sum of a step of which no group was drawn is the noise alone. With float32 noise of
torch a pair in the tail is one of few values, and none passes 5.77 sigma, so a sum beyond it, or
between those values, holds a patient.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mama.privacy import noise, optimiser
from mama.privacy.entropy import Keystream
from mama.privacy.optimiser import GroupwiseDPOptimizer

SIZE = 4_000_000
PARTNER = 8  # torch fills sixteen values at a time: eight by the cosine, eight by the sine
TAIL = 4.5
LAST = math.sqrt(48 * math.log(2))  # of 24-bit uniforms


def torch_noise(total: Tensor, sigma: float) -> None:
    """The noise that Opacus draws."""
    total.add_(torch.normal(0.0, sigma, total.shape))


def released(size: int, signal: float = 0.0) -> Tensor:
    """One step's sum over sigma, as a coordinator works it out from the weights' change."""
    weight = nn.Parameter(torch.zeros(size))
    dp = GroupwiseDPOptimizer(
        torch.optim.SGD([weight], lr=1.0),
        noise_multiplier=1.0,
        max_grad_norm=1.0,
        expected_groups=1.0,
    )
    dp.zero_grad()
    if signal:
        dp.add_group(signal * weight[0])
    dp.step()
    return -weight.detach()


def share_on_the_lattice(sums: Tensor, apart: int) -> float:
    """Share of tail pairs whose first uniform is a multiple of 2^-24, to 0.001 of a step."""
    blocks = sums.double().numpy()[: SIZE // (2 * apart) * 2 * apart].reshape(-1, 2, apart)
    squares = (blocks**2).sum(1).ravel()
    squares = squares[squares > TAIL**2]
    assert len(squares) > 50
    steps = np.exp(-squares / 2) * 2**24
    return float((np.abs(steps - steps.round()) < 1e-3).mean())


@pytest.fixture
def as_opacus(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    return lambda: monkeypatch.setattr(optimiser, "add_gaussian", torch_noise)


def test_pairs_in_the_tail_are_on_no_lattice(as_opacus: Callable[[], None]) -> None:
    sums = released(SIZE)
    for apart in (1, PARTNER, noise.PAIRS):
        assert share_on_the_lattice(sums, apart) < 0.05
    as_opacus()
    assert share_on_the_lattice(released(SIZE), PARTNER) > 0.9


class Extreme(Keystream):
    """A stream whose pairs all have the smallest uniform, at angle 0."""

    def words(self, count: int) -> np.ndarray:
        return np.zeros(count, np.uint64)


def test_no_sum_is_beyond_reach_without_a_patient(
    monkeypatch: pytest.MonkeyPatch, as_opacus: Callable[[], None]
) -> None:
    """The patient of finding 14 moves one coordinate by C; z is 1, so by one sigma."""
    monkeypatch.setattr(noise, "Keystream", Extreme)
    assert released(2)[0] > 13 > LAST + 1
    monkeypatch.undo()

    smallest = torch.full((16,), 1 - 2.0**-24)
    monkeypatch.setattr(
        torch, "normal", lambda mean, std, size: std * (-2 * (1 - smallest).log()).sqrt()
    )
    as_opacus()
    assert released(16).max() <= LAST + 1e-5
    # What proves the patient: with them in the step the sum can be where the noise alone never is.
    assert released(16, signal=1.0).max() > LAST + 0.9


def test_the_last_bits_do_not_tell_what_was_summed(as_opacus: Callable[[], None]) -> None:
    """Small sums show float32's finest bits, unless something large was added (Mironov 2012)."""

    def finest(signal: float) -> float:
        """Share of small sums off the multiples of 2^-24; 1 is float32's spacing at `signal`."""
        sums = torch.full((SIZE // 4,), signal)
        optimiser.add_gaussian(sums, 1.0)
        near = sums[sums.abs() < 2**-4].double() * 2**24
        return float((near != near.round()).double().mean())

    assert finest(0.0) == finest(1.0) == 0
    as_opacus()
    assert finest(0.0) > 0.5
    assert finest(1.0) == 0
