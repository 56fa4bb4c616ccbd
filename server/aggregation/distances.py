"""How far updates are from each other."""

from collections.abc import Iterable

import numpy as np


def squared_distances(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """||u_i - u_j||^2 = u_i.u_i + u_j.u_j - 2 u_i.u_j as (N, N) float64.

    Inner products are float64, so a distance keeps its digits down to some 1e-7 of the two updates' lengths. They are
    not centred on a mean, which one monstrous update would move away from all others.

    Args:
        blocks: (N, c) parts of the updates that together hold each coordinate once.
    """
    products: np.ndarray | float = 0.0
    for block in blocks:
        wide = block.astype(np.float64)
        products = products + wide @ wide.T
    squares = np.diagonal(products)
    return np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0)
