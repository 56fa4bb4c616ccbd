"""Mean of a round's updates by secure aggregation, without any single update in clear."""

from collections.abc import Iterator

from torch import Tensor, from_numpy

from mama.errors import QuorumError
from mama.exchange.protocol import Kind
from mama.exchange.secagg.messages import Basis
from mama.exchange.secagg.quantise import scale_of
from mama.exchange.update import Update, is_variate
from mama.system.journal import content_of
from server.aggregation.weights import weight_of
from server.round.collect import UpdateCollector
from server.round.evaluation import exchange_of
from server.round.sites import Sites
from server.run.context import RunContext
from server.run.history import ALL_SITES
from server.secagg.protocol import secure_mean


def collect_secure(
    run: RunContext, sites: Sites, updates: UpdateCollector
) -> Update[Tensor] | None:
    """Collect masked updates from the sites that trained, and return their weighted mean.

    The protocol runs in waves. SCAFFOLD's variates are among the tensors. Norm and direction of a
    single update stay unknown.

    Args:
        run: context of the run.
        sites: of the run.
        updates: the training metrics of the round, without tensors; bytes of the waves are added.

    Returns:
        None where too few sites were left or one sent what does not fit: the round is lost, the run
        goes on.
    """
    secure = run.experiment.privacy.secure
    assert secure is not None
    strategy, steps = run.experiment.strategy, run.experiment.federation.local_steps
    weights = {site: weight_of(site, m, strategy, steps) for site, m in updates.metrics.items()}
    basis = Basis(
        experiment=run.experiment.hash(),
        model=sites.downlink.digest,
        run=run.checkpoint.run,
        round=run.number,
    )

    def wave(kind: Kind, payloads: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
        state = exchange_of(run, sorted(payloads))
        for delivery in sites.exchange(kind, state, payloads=payloads):
            if delivery.when == "on_time":
                content = content_of(delivery.reply.payload)
                run.record(delivery.site, delivery.task.task, content, "received")
                updates.bytes_up[delivery.site] += delivery.reply.bytes_up
                updates.bytes_down[delivery.site] += delivery.bytes_down
                yield delivery.site, delivery.reply.payload

    try:
        mean, summed = secure_mean(
            secure, basis, updates.travelling, weights, wave, lambda site, p: run.problem(site, p)
        )
    except QuorumError as error:
        run.problem(ALL_SITES, error.what, "round_lost")
        return None
    # The federation's variate moves by the share of the sites that took part
    # (server.aggregation.scaffold).
    share = min(1.0, len(summed) / len(run.known))
    return Update.of(
        {
            name: from_numpy(array)
            .div_(scale_of(name, secure))
            .mul_(share if is_variate(name) else 1)
            for name, array in mean.items()
        }
    )
