"""A round whose updates the coordinator never sees: their mean comes in waves, when training is over."""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor, from_numpy

from mama.chain import content_of
from mama.config import Experiment
from mama.errors import QuorumError
from mama.exchange.block import Shape
from mama.exchange.method import VARIATE, of_round
from mama.exchange.protocol import Kind
from mama.secagg.messages import Basis
from mama.secagg.quantise import scale_of
from server.aggregation.weights import weight_of
from server.asking import Arrival
from server.audit import Audit
from server.folding import Folding
from server.memory import Memory
from server.secure_round import secure_mean
from server.sites import Sites


class MaskedFolding(Folding):
    """Takes what sites say of their training, with updates of no tensor; `result` asks them for the masked ones.

    Of a single update neither length nor direction is known.

    Args:
        run: its name, which masks are made for.
        asked: the sites, who answer the waves.
        audit: takes down what each of them sent.
    """

    def __init__(
        self,
        experiment: Experiment,
        number: int,
        shapes: dict[str, Shape],
        memory: Memory,
        sites: int,
        scratch: Path,
        run: str,
        asked: Sites,
        audit: Audit,
    ):
        super().__init__(experiment, number, {}, memory, sites, scratch)
        self._masked = of_round(shapes, experiment.federation, number)
        self._hash, self._sites, self._run, self._asked, self._audit = (
            experiment.hash(),
            sites,
            run,
            asked,
            audit,
        )

    def take(self, arrival: Arrival) -> None:
        """Take down what a site says of its training.

        Raises:
            ProtocolError: it is not what it should be, or tensors came with it.
        """
        super().take(arrival)
        self.norms[arrival.site] = None

    def result(self) -> dict[str, Tensor]:
        """The weighted mean of the updates, SCAFFOLD's variates among them.

        Of no tensor where too few sites were left, or one sent what does not fit: the round is lost, the run goes on.
        """
        secure = self._privacy.secure
        assert secure is not None
        weights = {site: weight_of(site, m, self._config) for site, m in self.metrics.items()}
        basis = Basis(
            experiment=self._hash,
            model=self._asked.downlink.digest,
            run=self._run,
            round=self._number,
        )
        try:
            mean, summed = secure_mean(
                secure,
                basis,
                self._masked,
                weights,
                self._ask,
                lambda site, problem: self._asked.problem(self._number, site, problem),
            )
        except QuorumError as error:
            self._asked.problem(self._number, "all sites", error.what, "round_lost")
            self.lost = True
            return {}
        # The federation's variate moves by the share of the sites that took part (server.aggregation.scaffold).
        share = min(1.0, len(summed) / self._sites)
        return {
            name: from_numpy(array)
            .div_(scale_of(name, secure))
            .mul_(share if name.startswith(VARIATE) else 1)
            for name, array in mean.items()
        }

    def _ask(self, kind: Kind, payloads: dict[str, bytes]) -> Iterator[tuple[str, bytes]]:
        for arrival in self._asked.ask(kind, self._number, sorted(payloads), payloads=payloads):
            if arrival.when == "time" and arrival.task.kind == kind:
                said = content_of(arrival.reply.payload)
                self._audit.record(arrival.site, self._number, arrival.task.task, said, "received")
                self.bytes_up[arrival.site] += arrival.reply.bytes_up
                self.bytes_down[arrival.site] += arrival.bytes_down
                yield arrival.site, arrival.reply.payload
