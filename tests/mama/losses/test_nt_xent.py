"""nt_xent_loss: values against a reference, invariances, precision, bad input."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from mama.losses import nt_xent_loss


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def twin(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """The definition, one view at a time."""
    views = torch.cat([first, second])
    n = len(first)

    def similarity(a: int, b: int) -> Tensor:
        product = (views[a] * views[b]).sum()
        length = views[a].square().sum().sqrt() * views[b].square().sum().sqrt()
        return product / (length * temperature)

    loss = torch.zeros((), dtype=first.dtype)
    for a in range(2 * n):
        others = torch.stack([similarity(a, b) for b in range(2 * n) if b != a])
        loss = loss + others.logsumexp(0) - similarity(a, (a + n) % (2 * n))
    return loss / (2 * n)


@given(st.integers(0, 10**6), st.integers(1, 6), st.floats(0.1, 2.0))
@settings(max_examples=40, deadline=None)
def test_value_and_gradients_equal_the_plain_twin(seed: int, n: int, temperature: float) -> None:
    leaves = (random(seed, n, 5).requires_grad_(), random(seed + 1, n, 5).requires_grad_())
    value, expected = nt_xent_loss(*leaves, temperature), twin(*leaves, temperature)
    assert_close(value, expected, rtol=1e-10, atol=1e-12)
    assert_close(
        torch.autograd.grad(value, leaves),
        torch.autograd.grad(expected, leaves),
        rtol=1e-10,
        atol=1e-11,
    )


def test_known_value() -> None:
    """Equal views of two orthogonal studies: log(e^(1/T) + 2) - 1/T in every row."""
    value = nt_xent_loss(torch.eye(2), 7 * torch.eye(2), 0.5)
    assert value.item() == pytest.approx(math.log(math.exp(2) + 2) - 2, rel=1e-5)


def test_order_roles_and_length_do_not_matter() -> None:
    first, second = random(0, 6, 8), random(1, 6, 8)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    value = nt_xent_loss(first, second, 0.5)
    assert_close(nt_xent_loss(first[order], second[order], 0.5), value)
    assert_close(nt_xent_loss(second, first, 0.5), value)
    assert_close(nt_xent_loss(1e3 * first, 1e-3 * second, 0.5), value)


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_confuse_costs_nothing(n: int) -> None:
    first, second = random(0, n, 4).requires_grad_(), random(1, n, 4).requires_grad_()
    value = nt_xent_loss(first, second, 0.5)
    assert value.item() == 0
    for gradient in torch.autograd.grad(value, (first, second)):
        assert not gradient.any()


def test_zero_vectors_have_finite_gradients() -> None:
    first = torch.zeros(3, 4, requires_grad=True)
    (gradient,) = torch.autograd.grad(nt_xent_loss(first, torch.ones(3, 4), 0.5), first)
    assert gradient.isfinite().all()


def test_autocast_does_not_coarsen_the_logits() -> None:
    first, second = random(0, 16, 32).bfloat16(), random(1, 16, 32).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = nt_xent_loss(first, second, 0.1)
    assert value.dtype == torch.float32
    assert_close(
        value.double(), nt_xent_loss(first.double(), second.double(), 0.1), rtol=1e-5, atol=0
    )


def test_gradcheck() -> None:
    first, second = random(0, 3, 3).requires_grad_(), random(1, 3, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: nt_xent_loss(a, b, 0.5), (first, second))


def test_bad_input_is_refused() -> None:
    views = torch.ones(3, 4)
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(2, 4\)"):
        nt_xent_loss(views, views[:2], 0.5)
    for temperature in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="temperature must be positive"):
            nt_xent_loss(views, views, temperature)
