"""How much an update counts."""

from mama.config_federation import FederationConfig
from mama.errors import ProtocolError
from mama.exchange.metrics import TrainingMetrics

# Beyond any honest weight, and such that weighted sums of checked updates stay within float32.
SMALLEST, LARGEST = 1e-18, 1e18


def weight_of(site: str, metrics: TrainingMetrics, config: FederationConfig) -> float:
    """n_i F_i^q: what `federation.weights` says of the site, times its loss to the power `federation.fairness`.

    q = 0 is FedAvg. With q > 0 the weighted mean points along the gradient of q-FFL's objective
    sum_i n_i F_i^(q+1) / (q+1): Li, Sanjabi, Beirami, Smith, "Fair Resource Allocation in Federated Learning", ICLR
    2020, equation 2. Two things differ from its algorithm 2: F_i is the mean loss over the round's local steps, which
    the site reports anyway, not that of the global model; and the step's length is the server optimiser's, not the
    algorithm's estimate of a Lipschitz constant.

    Raises:
        ProtocolError: the site's figures give no usable weight, or its steps are impossible.
    """
    if not 0 < metrics.steps <= config.local_steps:
        raise ProtocolError("metrics tell of no steps, or of more than asked for", where=site)
    weight = metrics.weight(config.weights)
    if config.fairness:
        # A hostile loss can be anything up to 1e30, or absent.
        weight *= max(metrics.terms.get("loss", 0.0), 0.0) ** config.fairness
    if not SMALLEST <= weight <= LARGEST:
        raise ProtocolError("metrics give no usable weight", where=site)
    return weight
