"""clip_loss: values against a reference, soft targets, invariances, precision, bad shapes."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from mama.losses import clip_loss

LOG_SCALE = torch.tensor(1.5, dtype=torch.float64)


def random(seed: int, *shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def relation(seed: int, n: int) -> Tensor:
    """A random `positives` matrix; not transitive, so a row sum differs from a column's targets."""
    some = random(seed, n, n) > 0.7
    return some | some.T


def twin(image: Tensor, text: Tensor, log_scale: Tensor, same: list[list[bool]]) -> Tensor:
    """The definition, one logit at a time."""
    n = len(image)
    image_length, text_length = image.square().sum(1).sqrt(), text.square().sum(1).sqrt()

    def logit(i: int, j: int) -> Tensor:
        return log_scale.exp() * (image[i] * text[j]).sum() / (image_length[i] * text_length[j])

    loss = torch.zeros((), dtype=image.dtype)
    for i in range(n):
        row = [logit(i, j) for j in range(n)]
        column = [logit(j, i) for j in range(n)]
        matches = [j for j in range(n) if j == i or same[i][j]]
        for logits in (row, column):
            log_sum = torch.stack(logits).logsumexp(0)
            for j in matches:
                loss = loss - (logits[j] - log_sum) / len(matches) / n
    return loss


@given(st.integers(0, 10**6), st.integers(1, 7), st.booleans())
@settings(max_examples=40, deadline=None)
def test_value_and_gradients_equal_the_plain_twin(seed: int, n: int, related: bool) -> None:
    same = relation(seed, n) if related else None
    leaves = (random(seed, n, 5), random(seed + 1, n, 5), LOG_SCALE.clone())
    for leaf in leaves:
        leaf.requires_grad_()
    expected = twin(*leaves, torch.eye(n).tolist() if same is None else same.tolist())
    value = clip_loss(*leaves, positives=same)
    assert_close(value, expected, rtol=1e-10, atol=1e-12)
    assert_close(
        torch.autograd.grad(value, leaves),
        torch.autograd.grad(expected, leaves),
        rtol=1e-10,
        atol=1e-11,
    )


def test_known_value() -> None:
    """Orthogonal pairs: each row is log(e^s + 1) - s, twice."""
    scale = 3.0
    value = clip_loss(torch.eye(2), 5 * torch.eye(2), torch.tensor(math.log(scale)))
    assert value.item() == pytest.approx(2 * (math.log(math.exp(scale) + 1) - scale), rel=1e-5)


def test_identity_as_same_is_the_plain_loss() -> None:
    image, text = random(0, 6, 8), random(1, 6, 8)
    plain = clip_loss(image, text, LOG_SCALE)
    for same in (torch.eye(6, dtype=torch.bool), torch.zeros(6, 6, dtype=torch.bool)):
        value = clip_loss(image, text, LOG_SCALE, positives=same)
        assert_close(value, plain, rtol=1e-14, atol=0)


def test_pairs_with_same_may_exchange_their_images() -> None:
    image, text = random(0, 4, 8), random(1, 4, 8)
    exchanged = image[[1, 0, 2, 3]]
    same = torch.eye(4, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    value = clip_loss(image, text, LOG_SCALE, positives=same)
    assert_close(clip_loss(exchanged, text, LOG_SCALE, positives=same), value)
    plain = clip_loss(image, text, LOG_SCALE)
    assert abs(clip_loss(exchanged, text, LOG_SCALE) - plain) > 0.1


def test_same_changes_nothing_between_identical_text_embeddings() -> None:
    """Their logits are equal, so it does not matter how a target is divided among them."""
    image, text = random(0, 4, 8), random(1, 4, 8)[[0, 0, 2, 3]]
    same = torch.eye(4, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    value = clip_loss(image, text, LOG_SCALE, positives=same)
    assert_close(value, clip_loss(image, text, LOG_SCALE))


def test_order_of_pairs_and_length_of_vectors_do_not_matter() -> None:
    image, text, same = random(0, 6, 8), random(1, 6, 8), relation(2, 6)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    value = clip_loss(image, text, LOG_SCALE, positives=same)
    permuted = clip_loss(image[order], text[order], LOG_SCALE, positives=same[order][:, order])
    assert_close(permuted, value)
    assert_close(clip_loss(1e3 * image, 1e-3 * text, LOG_SCALE, positives=same), value)


@pytest.mark.parametrize("n", [0, 1])
@pytest.mark.parametrize("with_same", [False, True])
def test_nothing_to_confuse_costs_nothing(n: int, with_same: bool) -> None:
    leaves = (random(0, n, 4), random(1, n, 4), LOG_SCALE.clone())
    for leaf in leaves:
        leaf.requires_grad_()
    same = torch.ones(n, n, dtype=torch.bool) if with_same else None
    value = clip_loss(*leaves, positives=same)
    assert value.item() == 0
    for gradient in torch.autograd.grad(value, leaves):
        assert not gradient.any()


def test_zero_vectors_have_finite_gradients() -> None:
    image = torch.zeros(3, 4, requires_grad=True)
    text = torch.zeros(3, 4, requires_grad=True)
    loss = clip_loss(image, text, torch.tensor(0.0))
    for gradient in torch.autograd.grad(loss, (image, text)):
        assert gradient.isfinite().all()


def test_autocast_does_not_coarsen_the_logits() -> None:
    image, text = random(0, 16, 32).bfloat16(), random(1, 16, 32).bfloat16()
    log_scale = torch.tensor(math.log(100.0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = clip_loss(image, text, log_scale)
    assert value.dtype == torch.float32
    assert_close(
        value.double(), clip_loss(image.double(), text.double(), log_scale), rtol=1e-5, atol=0
    )


def test_gradcheck() -> None:
    image, text = random(0, 3, 3).requires_grad_(), random(1, 3, 3).requires_grad_()
    log_scale, same = LOG_SCALE.clone().requires_grad_(), relation(4, 3)
    assert torch.autograd.gradcheck(
        lambda i, t, s: clip_loss(i, t, s, positives=same), (image, text, log_scale)
    )


def test_bad_shapes_are_refused() -> None:
    image = torch.ones(3, 4)
    with pytest.raises(ValueError, match=r"\(3, 4\) and \(2, 4\)"):
        clip_loss(image, image[:2], LOG_SCALE)
    with pytest.raises(ValueError, match="positives must be bool"):
        clip_loss(image, image, LOG_SCALE, positives=torch.eye(3))
    with pytest.raises(ValueError, match="positives must be bool"):
        clip_loss(image, image, LOG_SCALE, positives=torch.eye(2, dtype=torch.bool))
