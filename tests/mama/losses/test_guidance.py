"""guidance_loss: hand-computed values, range, gradient flow, bad input."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from mama.losses.guidance import guidance_loss


def test_by_hand() -> None:
    ours = torch.tensor([[3.0, 4.0], [0.0, 5.0]])
    anchors = torch.tensor([[4.0, 3.0], [0.0, -1.0]])
    # (0.6 - 0.8)² + (0.8 - 0.6)² = 0.08, and the opposite direction 4
    assert guidance_loss(ours, anchors).item() == pytest.approx((0.08 + 4) / 2)
    assert guidance_loss(ours, 7 * ours).item() == pytest.approx(0, abs=1e-12)
    assert guidance_loss(ours[:0], anchors[:0]).item() == 0


@given(st.integers(0, 10**6), st.integers(1, 6))
def test_it_is_two_less_twice_the_mean_cosine(seed: int, n: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ours, anchors = torch.randn(2, n, 5, dtype=torch.float64, generator=generator)
    cosine = torch.cosine_similarity(ours, anchors).mean()
    assert_close(guidance_loss(ours, anchors), 2 - 2 * cosine)


def test_gradients_flow_to_the_embeddings_alone_and_lead_to_the_anchors() -> None:
    ours = torch.tensor([[1.0, 0.0]], requires_grad=True)
    anchors = torch.tensor([[0.0, 1.0]], requires_grad=True)
    guidance_loss(ours, anchors).backward()
    assert anchors.grad is None
    assert ours.grad.tolist() == [[0, -2]]


def test_other_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match="must both be"):
        guidance_loss(torch.zeros(2, 3), torch.zeros(2, 4))
