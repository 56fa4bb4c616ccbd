"""Values and gradients of all terms equal those of the published implementation, in float64."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from mama.losses import clip_loss, local_alignment_loss, nt_xent_loss

FIXTURE = Path(__file__).parents[3] / "../shared/golden/losses.npz"
INPUTS = {
    "img_emb_raw",
    "ext_emb_raw",
    "report_emb_raw",
    "simclr_ext",
    "simclr_img",
    "patch_emb_raw",
    "sentence_emb_raw",
    "logit_scale",
    "local_scale",
}


@pytest.fixture(scope="module")
def published() -> Mapping[str, np.ndarray]:
    if not FIXTURE.exists():
        pytest.skip("the published values (../shared/golden/losses.npz) are not on this machine")
    with np.load(FIXTURE, allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture
def inputs(published: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: torch.tensor(published[name]).requires_grad_() for name in INPUTS}


def padded(flat: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Sentences (sum of counts, C) as (N, S, C) with their mask; one column more than needed."""
    mask = torch.arange(int(counts.max()) + 1) < counts[:, None]
    return flat.new_full((*mask.shape, flat.shape[1]), 3.0).masked_scatter(
        mask[:, :, None], flat
    ), mask


def terms(published: Mapping[str, np.ndarray], inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    sentences, mask = padded(inputs["sentence_emb_raw"], torch.tensor(published["sentence_counts"]))
    report, scale = inputs["report_emb_raw"], inputs["logit_scale"]
    return {
        "image_text": clip_loss(inputs["img_emb_raw"], report, scale),
        "ext": clip_loss(inputs["ext_emb_raw"], report, scale),
        "ntxent": nt_xent_loss(
            inputs["simclr_ext"], inputs["simclr_img"], float(published["ntxent_temperature"])
        ),
        "local": local_alignment_loss(
            inputs["patch_emb_raw"], sentences, mask, inputs["local_scale"]
        ),
    }


@pytest.mark.parametrize("term", ["image_text", "ext", "ntxent", "local"])
def test_each_term_is_the_sum_of_its_published_parts(
    term: str, published: Mapping[str, np.ndarray], inputs: dict[str, Tensor]
) -> None:
    parts = [value for name, value in published.items() if name.startswith(f"loss_{term}")]
    assert len(parts) == {"image_text": 2, "ext": 2, "ntxent": 1, "local": 4}[term]
    value = terms(published, inputs)[term].item()
    np.testing.assert_allclose(value, float(sum(parts)), rtol=1e-10)


def test_total_and_all_gradients_are_the_published_ones(
    published: Mapping[str, np.ndarray], inputs: dict[str, Tensor]
) -> None:
    total = torch.stack(list(terms(published, inputs).values())).sum()
    np.testing.assert_allclose(total.item(), published["loss_total"], rtol=1e-10)
    gradients = torch.autograd.grad(total, list(inputs.values()))
    for name, gradient in zip(inputs, gradients, strict=True):
        expected = published[f"{name}_grad"]
        # Relative to the largest entry: single entries may cancel to almost nothing.
        np.testing.assert_allclose(
            gradient, expected, rtol=1e-10, atol=1e-14 * np.abs(expected).max(), err_msg=name
        )
