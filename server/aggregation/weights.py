"""Weight of an update in the mean."""

from mama.config.strategy import StrategyConfig
from mama.errors import ProtocolError
from mama.exchange.metrics import TrainingMetrics

# Beyond any honest weight, and such that weighted sums of checked updates stay within float32.
SMALLEST, LARGEST = 1e-18, 1e18


def weight_of(
    site: str, metrics: TrainingMetrics, strategy: StrategyConfig, local_steps: int
) -> float:
    """Return a site's weight n_i F_i^q.

    n_i is its number by `strategy.weights`, F_i its loss, q `strategy.fairness`. q = 0 is
    FedAvg. With q > 0 the weighted mean points along the gradient of q-FFL's objective
    sum_i n_i F_i^(q+1) / (q+1): Li, Sanjabi, Beirami, Smith, "Fair Resource Allocation in Federated
    Learning", ICLR 2020, equation 2. There are two differences from its algorithm 2: F_i is the
    mean loss over the round's local steps, which the site reports anyway, not that of the global
    model; and the server optimiser sets the step length, not an estimated Lipschitz constant.

    Raises:
        ProtocolError: the site's figures give no usable weight, or its steps are impossible.
    """
    if not 0 < metrics.steps <= local_steps:
        raise ProtocolError("metrics state no steps, or more than planned", where=site)
    weight = metrics.weight(strategy.weights)
    if strategy.fairness:
        # A hostile loss can be anything up to 1e30, or absent.
        weight *= max(metrics.terms.get("loss", 0.0), 0.0) ** strategy.fairness
    if not SMALLEST <= weight <= LARGEST:
        raise ProtocolError("metrics give no usable weight", where=site)
    return weight
