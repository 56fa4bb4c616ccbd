"""Gradient of the whole objective on one batch, in the memory of a part of the batch.

Gradient caching (Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under
Memory Limited Setup", 2021, arXiv 2101.06983): encode the batch in chunks without a graph, compute
the gradient of the losses with respect to the embeddings of the whole batch, then encode every
chunk again with a graph and propagate its part of that gradient through the towers. It equals the
plain gradient up to rounding; dropout repeats, since the random state of each chunk is restored.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from mama.config import LossConfig
from mama.data.pairs import Batch
from mama.model import MaMA
from mama.training.distributed import counted_once, gathered
from mama.training.guidance import Autocast, GlobalAnchor, guidance
from mama.training.objective import EMBEDDINGS, Encoded, encode, joined, losses


class RandomState:
    """State of the random generators used by dropout."""

    def __init__(self, device: torch.device):
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Reset the generators to this state."""
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)


def add_gradient(  # noqa: PLR0913  (keywords)
    model: MaMA,
    batch: Batch,
    config: LossConfig,
    terms: Sequence[str],
    *,
    chunk: int | None = None,
    autocast: Autocast,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
    anchor: GlobalAnchor | None = None,
) -> tuple[dict[str, Tensor], Encoded]:
    """Add the gradient of the weighted terms to the parameters' `grad`.

    With several processes, `batch` is this process's share, the losses are those of the whole
    batch, and the gradients remain to be summed over processes (`distributed.sum_gradients`).

    Args:
        model: the model in training.
        batch: the study pairs.
        config: weights and settings of the terms.
        terms: names of the active terms.
        chunk: studies encoded at a time; None encodes all at once, without caching.
        autocast: creates the context of the forward pass.
        scale: applied to the total before the backward pass (accumulation, loss scaling).
        anchor: adds the pull towards the global model's embeddings as the term `guidance`.

    Returns:
        The terms and their weighted sum `loss`, scalars that may not be finite, and the batch's
        embeddings, all without a graph.
    """
    chunk = min(chunk or len(batch), len(batch))
    cached = chunk < len(batch)
    states: list[RandomState] = []
    if cached:
        own, states = _without_graph(model, batch, terms, chunk, autocast)
        for name in EMBEDDINGS:
            getattr(own, name).requires_grad_()
    else:
        with autocast():
            own = encode(model, batch, terms)
    with autocast():
        everyone = Encoded(*map(gathered, own))
        scales = counted_once(model.logit_scale), counted_once(model.local_scale)
        values = losses(everyone, *scales, config, terms)
    weights = {name: getattr(config, name).weight for name in terms}
    if anchor:
        with torch.no_grad():
            parts = [anchor.encode(part, autocast) for part in _chunks(batch, chunk)]
        targets = Encoded(*map(gathered, joined(parts)))
        weights["guidance"], values["guidance"] = anchor.weight, guidance(everyone, targets)
    total = torch.stack([weight * values[name] for name, weight in weights.items()]).sum()
    scale(total).backward()
    if cached:
        pieces = zip(_chunks(batch, chunk), states, strict=True)
        _through_the_towers(model, pieces, terms, autocast, own)
    reached = {**values, "loss": total}
    seen = Encoded(*(part.detach() for part in everyone))
    return {name: value.detach() for name, value in reached.items()}, seen


def _chunks(batch: Batch, chunk: int) -> Iterator[Batch]:
    return (batch[first : first + chunk] for first in range(0, len(batch), chunk))


@torch.no_grad()
def _without_graph(
    model: MaMA, batch: Batch, terms: Sequence[str], chunk: int, autocast: Autocast
) -> tuple[Encoded, list[RandomState]]:
    parts, states = [], []
    for part in _chunks(batch, chunk):
        states.append(RandomState(part.first.device))
        with autocast():
            parts.append(encode(model, part, terms))
    return joined(parts), states


def _through_the_towers(
    model: MaMA,
    pieces: Iterable[tuple[Batch, RandomState]],
    terms: Sequence[str],
    autocast: Autocast,
    cached: Encoded,
) -> None:
    taken = dict.fromkeys(EMBEDDINGS, 0)
    for part, state in pieces:
        state.restore()
        with autocast():
            encoded = encode(model, part, terms)
        outputs, gradients = [], []
        for name in EMBEDDINGS:
            output, gradient = getattr(encoded, name), getattr(cached, name).grad
            rows = slice(taken[name], taken[name] + len(output))
            taken[name] = rows.stop
            if gradient is not None and output.requires_grad:
                outputs.append(output)
                gradients.append(gradient[rows])
        torch.autograd.backward(outputs, gradients)
