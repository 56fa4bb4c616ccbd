"""A site's part in the federation's method: FedProx, SCAFFOLD, guidance, and which tensors are local or frozen."""

import logging

import torch
from torch import Tensor, nn

from client.sitefile import SiteFile
from client.states import RoundStates
from mama.checkpoint import load_tensors, save_tensors
from mama.config_federation import FederationConfig
from mama.corrections import ControlVariate, Frozen, Proximal
from mama.errors import ModelError
from mama.exchange.arrays import Arrays, difference
from mama.exchange.method import VARIATE, of_round, split
from mama.exchange.tensors import (
    local_tensors,
    put_local,
    put_trained,
    trained_arrays,
    trained_shapes,
)
from mama.guide import Guide
from mama.model import MaMA
from mama.trainer import Correction

Tensors = dict[str, Tensor]

logger = logging.getLogger("fedmama.client")


class LocalMethod:
    """One site's part in one run, around one round. What outlasts the round is on the site's disk, one file a round,
    so that a round asked for again starts where it did."""

    def __init__(self, site: SiteFile, config: FederationConfig, run: str, number: int):
        self.site, self.config, self.number = site, config, number
        self.local = RoundStates(site.run_folder(run) / "local")
        self.variates = RoundStates(site.run_folder(run) / "variate")
        self._own: Tensors = {}
        self._variate = ControlVariate({})
        self._arrays: Arrays = {}

    def put(self, model: nn.Module, arrays: Arrays, initial: Tensors, *, after: bool) -> None:
        """Make the model the server's, with this site's own local tensors.

        Args:
            arrays: what the server sent.
            initial: the local tensors of a site that has not trained yet.
            after: take the local tensors as they are after this round, not before it.

        Raises:
            ProtocolError: the server's tensors are not those of this model.
            ModelError: the local tensors on this site's disk are damaged or gone. Nobody has a copy.
        """
        put_trained(model, split(arrays)[0], self.config.local)
        self.put_own(model, initial, after=after)

    def put_own(self, model: nn.Module, initial: Tensors, *, after: bool) -> None:
        """Set the local tensors alone.

        Raises:
            ModelError: they are damaged or gone.
        """
        path = self.local.before(self.number + 1 if after else self.number)
        put_local(model, load_tensors(path)[0] if path else initial, self.config.local)

    def begin(self, model: nn.Module, arrays: Arrays) -> list[Correction]:
        """What corrects the gradients of this round, given the model as `put` left it."""
        self._arrays, variates = split(arrays)
        named = [(n, p) for n, p in model.named_parameters() if n in self._arrays]
        trained = of_round(trained_shapes(model), self.config, self.number)
        # First, so that what is frozen has no gradient to be corrected.
        corrections: list[Correction] = [Frozen(trained_shapes(model).keys() - trained.keys())]
        if self.config.scaffold:
            self._own = self._own_variate()
            shift = {
                name: (torch.tensor(variates[name]) - self._own.get(name, 0)).to(p.device)
                for name, p in named
            }
            self._variate = ControlVariate(shift)
            # Before FedProx's pull, which is not a gradient of the site's data.
            corrections.append(self._variate)
        if self.config.prox > 0:
            corrections.append(Proximal(named, self.config.prox))
        return corrections

    def guide(self, model: MaMA) -> Guide | None:
        """What keeps this round's embeddings near the global model's, given the model as `put` left it."""
        return Guide(model, self.config.guidance) if self.config.guidance else None

    def finish(self, model: nn.Module) -> Arrays:
        """Keep what this site keeps of the round; returns what it sends."""
        if self.config.local:
            save_tensors(self.local.of(self.number), local_tensors(model, self.config.local))
            self.local.keep(self.number)
        update = difference(trained_arrays(model, self.config.local), self._arrays)
        if self.config.scaffold:
            update |= self._variate_change()
        return of_round(update, self.config, self.number)

    def _variate_change(self) -> Arrays:
        """c_site' - c_site by the variates' names. A tensor that met no gradient has a mean gradient of 0."""
        new = self._variate.site_variate()
        trained = of_round(self._arrays, self.config, self.number)
        change: Arrays = {}
        for name, array in trained.items():
            now = new[name].cpu() if name in new else torch.zeros(array.shape)
            change[VARIATE + name] = (now - self._own.get(name, 0)).numpy()
            self._own[name] = now
        save_tensors(self.variates.of(self.number), self._own)
        self.variates.keep(self.number)
        return change

    def _own_variate(self) -> Tensors:
        """c_site, empty where it is 0."""
        try:
            path = self.variates.before(self.number)
            return load_tensors(path)[0] if path else {}
        except ModelError as error:
            # It speeds training up; without it the round is a plain one.
            logger.warning("site %s, round %d: %s", self.site.site, self.number, error)
            return {}
