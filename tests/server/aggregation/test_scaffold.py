"""SCAFFOLD's control variate at the server."""

import numpy as np
import pytest

from mama.errors import QuorumError
from mama.exchange.arrays import Arrays
from server.aggregation.scaffold import VariateChange


def change(*values: float) -> Arrays:
    return {"w": np.float32(values), "s": np.array(values[0], np.float32)}


SHAPES: dict[str, tuple[int, ...]] = {"w": (2,), "s": ()}


def test_by_hand() -> None:
    # 2 of 8 sites: a quarter of the mean change
    variate = VariateChange(SHAPES, sites=8)
    variate.fold("a", change(4, -8), 1)
    variate.fold("b", change(0, 0), 1)
    result = variate.result()
    assert result["w"].tolist() == [0.5, -1]
    assert result["s"].item() == 0.5
    # By weight
    variate = VariateChange(SHAPES, sites=2)
    variate.fold("a", change(4, -8), 3)
    variate.fold("b", change(0, 4), 1)
    assert variate.result()["w"].tolist() == [3, -5]


def test_c_stays_the_mean_over_all_sites_variates() -> None:
    """The paper's invariant c = sum of c_i / N, whoever takes part."""
    random = np.random.default_rng(0)
    c, sites = np.zeros(3), np.zeros((5, 3), np.float32)
    for number in range(6):
        chosen = random.permutation(5)[: 1 + number % 5]
        variate = VariateChange({"w": (3,)}, sites=5)
        for site in chosen:
            new = random.normal(size=3).astype(np.float32)
            variate.fold(str(site), {"w": new - sites[site]}, 1)
            sites[site] = new
        c += variate.result()["w"].numpy()
        np.testing.assert_allclose(c, sites.mean(0), atol=1e-6)


def test_without_a_change_there_is_none() -> None:
    with pytest.raises(QuorumError):
        VariateChange(SHAPES, sites=2).result()
