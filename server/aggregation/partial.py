"""Updates of sites that did fewer steps than planned."""


class PartialWork:
    """FedNova: u_i over its share t_i of the planned steps is the site's direction, of which the round takes the mean:

        sum_i p_i t_i * sum_i p_i u_i / t_i,  p_i = w_i / sum_j w_j

    Wang, Liu, Liang, Joshi, Poor, "Tackling the Objective Inconsistency Problem in Heterogeneous Federated
    Optimization", NeurIPS 2020, section 4. Else a site would count the less, the slower it is. Where all did the same
    number of steps it is the weighted mean.

    It is a weighted mean too: of weights w_i / t_i, times a number that only the last site settles. So nothing is
    copied, and updates are folded as they come.

    A site that claims fewer steps than it did is magnified: compare |u_i| / t_i, not |u_i|, with what is usual.
    """

    def __init__(self) -> None:
        self._sum = self._over = self._times = 0.0

    def weight(self, weight: float, share: float) -> float:
        """What to weight an update by that counts `weight` and did `share` (above 0) of the planned steps."""
        self._sum += weight
        self._over += weight / share
        self._times += weight * share
        return weight / share

    def factor(self) -> float:
        """What to multiply the weighted mean by; 1 where all did the same."""
        return (self._over * self._times) / (self._sum * self._sum)
