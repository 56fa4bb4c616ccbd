"""Updates of sites that did fewer steps than planned."""


class PartialWork:
    """FedNova weights for sites that did a share t_i of the planned steps.

    A site's direction is u_i / t_i; the round's update is the mean direction times the mean share:

        sum_i p_i t_i * sum_i p_i u_i / t_i,  p_i = w_i / sum_j w_j

    Wang, Liu, Liang, Joshi, Poor, "Tackling the Objective Inconsistency Problem in Heterogeneous
    Federated Optimization", NeurIPS 2020, section 4. Without it, slow sites would count
    less. With equal numbers of steps it is the weighted mean.

    It equals a mean with weights w_i / t_i, times a factor known after the last site. So nothing is
    copied, and updates are folded as they arrive.

    A site that claims fewer steps than it did is magnified: compare |u_i| / t_i, not |u_i|, with
    what is usual.
    """

    def __init__(self) -> None:
        self._sum = self._over = self._times = 0.0

    def weight(self, weight: float, share: float) -> float:
        """Return the weight of an update after `share` (above 0) of the planned steps."""
        self._sum += weight
        self._over += weight / share
        self._times += weight * share
        return weight / share

    def factor(self) -> float:
        """Return the factor of the weighted mean; 1 if all sites did the same share."""
        return (self._over * self._times) / (self._sum * self._sum)
