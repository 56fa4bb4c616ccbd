"""Heat maps: gradient x token is how the cosine changes when a patch's token is scaled."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mama.config import Experiment
from mama.evaluation.heat_map import heat_maps
from mama.model import MaMA, build_model


@pytest.fixture(params=["vit", "convnext"])
def tower(
    request: pytest.FixtureRequest,
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
) -> MaMA:
    other = [
        "image.tower=convnext_atto",
        "image.options={depths: [1, 1, 1, 1], dims: [8, 8, 8, 16]}",
    ]
    experiment = make_experiment(*(other if request.param == "convnext" else []))
    return build_model(experiment, base_models).double().eval()


def test_it_is_the_derivative_by_the_scale_of_each_token(tower: MaMA) -> None:
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(2, 1, 32, 32, generator=generator, dtype=torch.float64) * 1.9 - 0.95
    images[0, :, :, 20:] = -1
    texts = F.normalize(torch.randn(3, 16, generator=generator, dtype=torch.float64), dim=-1)
    found = heat_maps(tower, images, texts)
    rows, columns = tower.image.grid
    assert found.shape == (2, 3, rows, columns)
    with torch.no_grad():
        kept = tower.image.kept(images)
        tokens, packing = tower.image.encode(images, kept)

        def cosines(place: int, factor: float) -> torch.Tensor:
            scaled = tokens.clone()
            scaled[place] *= factor
            pooled = tower.image.pool(scaled, packing)
            return F.normalize(tower.image_projection(pooled), dim=-1) @ texts.T

        step = 1e-5
        for place, (image, patch) in zip(
            packing.patches.tolist(), kept.nonzero().tolist(), strict=True
        ):
            change = (cosines(place, 1 + step) - cosines(place, 1 - step))[image] / (2 * step)
            value = found[image, :, patch // columns, patch % columns].double()
            torch.testing.assert_close(value, change, rtol=1e-3, atol=1e-6)
    assert torch.equal(found.isnan().all(1).flatten(1), ~kept)
    alone = heat_maps(tower, images[1:], texts)
    torch.testing.assert_close(found[1:], alone, equal_nan=True)
