"""A site's part in the federated method: FedProx, SCAFFOLD, guidance, local and frozen tensors."""

import torch
from torch import Tensor, nn

from client.site.config import SiteFile
from client.training.round_state import RoundStates
from mama.config.strategy import StrategyConfig
from mama.exchange.arrays import Arrays, difference
from mama.exchange.tensors import (
    local_tensors,
    put_local,
    put_trained,
    trained_arrays,
    trained_shapes,
)
from mama.exchange.update import Update, of_round
from mama.model import MaMA
from mama.system.tensors import load_tensors, save_tensors
from mama.training.guidance import GlobalAnchor
from mama.training.hooks import ControlVariate, Frozen, GradientHook, Proximal

Tensors = dict[str, Tensor]


class LocalMethod:
    """One site's part in one round of a run.

    State that outlasts the round is on the site's disk, one file per round, so that a repeated
    round starts from the same state.
    """

    def __init__(self, site: SiteFile, config: StrategyConfig, run: str, number: int):
        self.site, self.config, self.number = site, config, number
        self.local = RoundStates(site.run_folder(run) / "local")
        self.variates = RoundStates(site.run_folder(run) / "variate")
        self._own: Tensors = {}
        self._variate = ControlVariate({})
        self._arrays: Arrays = {}

    def put(self, model: nn.Module, arrays: Arrays, initial: Tensors, *, after: bool) -> None:
        """Load the server's tensors and this site's own local tensors into a model.

        Args:
            model: the model to change.
            arrays: the server's tensors.
            initial: local tensors of a site that has not trained yet.
            after: use the local tensors from after this round instead of those from before it.

        Raises:
            ProtocolError: the server's tensors do not match this model.
            ModelError: the local tensors on this site's disk, the only copy, are damaged or
                missing.
        """
        put_trained(model, Update.of(arrays).model, self.config.local)
        self.put_own(model, initial, after=after)

    def put_own(self, model: nn.Module, initial: Tensors, *, after: bool) -> None:
        """Load only the local tensors into a model.

        Raises:
            ModelError: they are damaged or missing.
        """
        path = self.local.before(self.number + 1 if after else self.number)
        put_local(model, load_tensors(path)[0] if path else initial, self.config.local)

    def begin(self, model: nn.Module, arrays: Arrays) -> list[GradientHook]:
        """Return the gradient hooks of this round, given the model as `put` left it."""
        sent = Update.of(arrays)
        self._arrays = sent.model
        named = [(n, p) for n, p in model.named_parameters() if n in self._arrays]
        trained = of_round(trained_shapes(model), self.config, self.number)
        # First, so that frozen tensors have no gradient that later hooks correct.
        hooks: list[GradientHook] = [Frozen(trained_shapes(model).keys() - trained.keys())]
        if self.config.scaffold:
            # Empty is 0. It only speeds training up; without it the round uses plain gradients.
            self._own = self.variates.read_before(self.number, self.site.site)
            shift = {
                name: (torch.tensor(sent.variates[name]) - self._own.get(name, 0)).to(p.device)
                for name, p in named
            }
            self._variate = ControlVariate(shift)
            # Before FedProx's pull, which is not a gradient of the site's data.
            hooks.append(self._variate)
        if self.config.prox > 0:
            hooks.append(Proximal(named, self.config.prox))
        return hooks

    def anchor(self, model: MaMA) -> GlobalAnchor | None:
        """Return the anchor of this round's embeddings, given the model as `put` left it."""
        return GlobalAnchor(model, self.config.guidance) if self.config.guidance else None

    def finish(self, model: nn.Module) -> Arrays:
        """Store this site's state after the round, and return its update."""
        if self.config.local:
            save_tensors(self.local.of(self.number), local_tensors(model, self.config.local))
            self.local.keep(self.number)
        change = difference(trained_arrays(model, self.config.local), self._arrays)
        variates = self._variate_change() if self.config.scaffold else {}
        return of_round(Update(change, variates).block(), self.config, self.number)

    def _variate_change(self) -> Arrays:
        """Return c_site' - c_site by variate name; a tensor without gradients has mean 0."""
        new = self._variate.site_variate()
        trained = of_round(self._arrays, self.config, self.number)
        change: Arrays = {}
        for name, array in trained.items():
            now = new[name].cpu() if name in new else torch.zeros(array.shape)
            change[name] = (now - self._own.get(name, 0)).numpy()
            self._own[name] = now
        save_tensors(self.variates.of(self.number), self._own)
        self.variates.keep(self.number)
        return change
