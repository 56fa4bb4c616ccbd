"""Norms and cosines of updates against numpy, also with values in few rows or columns."""

import numpy as np
import pytest

from mama.exchange.arrays import Arrays
from server.aggregation.similarity import WIDTH, cosines_to_others, norm, sketch


def random(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def flat(update: Arrays) -> np.ndarray:
    return np.concatenate([update[name].reshape(-1) for name in sorted(update)]).astype(float)


def exact(updates: dict[str, Arrays], weights: dict[str, float]) -> dict[str, float]:
    found = {}
    for site, update in updates.items():
        others = sum(weights[o] * flat(u) for o, u in updates.items() if o != site)
        own = flat(update)
        found[site] = own @ others / np.linalg.norm(own) / np.linalg.norm(others)
    return found


def one_column(array: np.ndarray) -> np.ndarray:
    made = np.zeros_like(array)
    made[:, 3] = array[:, 3]
    return made


def one_rank(array: np.ndarray) -> np.ndarray:
    return np.outer(array[:, 0], array[0])


@pytest.mark.parametrize(
    "shape", [lambda array: array, one_column, one_rank, lambda array: array.round()]
)
def test_cosines_are_those_of_the_updates(shape) -> None:
    common = random(0, 1024, 768)
    updates = {
        site: {
            "b": shape(common + spread * random(seed, 1024, 768)).astype(np.float32),
            "a": random(seed + 10, 5),
            "scale": np.float32(seed).reshape(()),
        }
        for site, seed, spread in (("x", 1, 0.1), ("y", 2, 1.0), ("z", 3, 5.0))
    }
    updates["turned"] = {name: -array for name, array in updates["x"].items()}
    weights = {"x": 1.0, "y": 2.0, "z": 3.0, "turned": 0.5}
    found = cosines_to_others({site: sketch(u) for site, u in updates.items()}, weights)
    expected = exact(updates, weights)
    for site in updates:
        assert found[site] == pytest.approx(expected[site], abs=6 / np.sqrt(WIDTH)), site
        assert norm(updates[site]) == pytest.approx(np.linalg.norm(flat(updates[site])), rel=1e-5)


def test_the_order_of_names_does_not_matter() -> None:
    one = {"a": random(0, 70_000), "b": random(1, 3)}
    np.testing.assert_array_equal(sketch(one).values, sketch(dict(reversed(one.items()))).values)


def test_without_others_or_without_a_direction_there_is_no_cosine() -> None:
    zeros, one = sketch({"a": np.zeros(9, np.float32)}), sketch({"a": random(0, 9)})
    weights = {"x": 1.0, "y": 1.0}
    assert cosines_to_others({"x": zeros, "y": one}, weights) == {"x": None, "y": None}
    assert cosines_to_others({"y": one}, weights) == {"y": None}
    assert cosines_to_others({"x": one, "y": one}, weights) == pytest.approx({"x": 1, "y": 1})
