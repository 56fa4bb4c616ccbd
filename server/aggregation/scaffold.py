"""SCAFFOLD at the server: the step of the federation's control variate."""

from torch import Tensor

from mama.exchange.arrays import Arrays
from server.aggregation.base import Shapes
from server.aggregation.mean import WeightedMean


class VariateChange:
    """Change c' - c of SCAFFOLD's server variate c, the mean gradient over all N sites.

    From the changes of the variates of a round's sites S:

        c' = c + |S| / N * sum over S of p_i (c_i' - c_i),  p_i = w_i / sum over S of w_j

    Karimireddy et al., "SCAFFOLD: Stochastic Controlled Averaging for Federated Learning", ICML
    2020, algorithm 1, line 17, where all p_i are 1 / |S|. With other weights, c is the mean over
    all sites of c_i by those weights as long as all take part and their weights stay.

    A site keeps its c_i' whether the server folds the change or not: a change that is lost or
    refused leaves c off by p_i (c_i' - c_i) from then on.
    """

    def __init__(self, shapes: Shapes, sites: int):
        self._mean, self._sites, self._answered = WeightedMean(shapes), sites, 0

    def fold(self, site: str, change: Arrays, weight: float) -> None:
        """Add a site's change."""
        self._mean.fold(site, change, weight)
        self._answered += 1

    def result(self) -> dict[str, Tensor]:
        """Return the step of c.

        Raises:
            QuorumError: there was no change.
        """
        share = min(1.0, self._answered / self._sites)
        return {name: tensor.mul_(share) for name, tensor in self._mean.result().items()}

    def close(self) -> None:
        """Free the sums."""
        self._mean.close()
