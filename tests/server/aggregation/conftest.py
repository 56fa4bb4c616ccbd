"""A few sites' updates, and any aggregation rule folded over them."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from mama.config.strategy import AggregatorConfig
from mama.exchange.arrays import Arrays
from server.aggregation.make import make_aggregator

SHAPES: dict[str, tuple[int, ...]] = {"w": (3, 4), "v": (5,), "scale": (), "none": (0, 2)}


@pytest.fixture
def shapes() -> dict[str, tuple[int, ...]]:
    return SHAPES


@pytest.fixture
def random_updates() -> Callable[..., list[Arrays]]:
    """So many sites' updates of tensors of `shapes`."""

    def make(sites: int, seed: int = 0) -> list[Arrays]:
        rng = np.random.default_rng(seed)
        return [
            {name: np.asarray(rng.normal(size=shape), np.float32) for name, shape in SHAPES.items()}
            for _ in range(sites)
        ]

    return make


@pytest.fixture
def combine(tmp_path: Path) -> Callable[..., dict[str, np.ndarray]]:
    """Fold updates under the names a, b, c, ... in the order given, and return the result."""

    def run(
        config: AggregatorConfig,
        updates: Sequence[Arrays],
        weights: Sequence[float] | None = None,
        order: Sequence[int] | None = None,
    ) -> dict[str, np.ndarray]:
        shapes = {name: array.shape for name, array in updates[0].items()}
        rule = make_aggregator(config, shapes, tmp_path / "scratch")
        try:
            for i in order or range(len(updates)):
                rule.fold(chr(ord("a") + i), updates[i], weights[i] if weights else 1.0)
            return {name: tensor.numpy().copy() for name, tensor in rule.result().items()}
        finally:
            rule.close()

    return run


@pytest.fixture
def combine_rows(combine: Callable[..., dict[str, np.ndarray]]) -> Callable[..., list[float]]:
    """The same for updates of one tensor, given as lists."""

    def run(config: AggregatorConfig, *rows: Sequence[float], **options: Sequence) -> list[float]:
        return combine(config, [{"w": np.float32(row)} for row in rows], **options)["w"].tolist()

    return run
