"""The gradient of the whole objective on one batch, in the memory of a part of it.

Gradient caching (Gao, Zhang, Han, Callan, "Scaling Deep Contrastive Learning Batch Size under Memory Limited
Setup", 2021, arXiv 2101.06983): encode the batch in chunks without a graph, take the gradient of the
losses with respect to the embeddings of the whole batch, then encode every chunk again with a graph and send
its part of that gradient back through the towers. Equal to the plain gradient up to rounding; dropout repeats,
because each chunk is encoded again from the random state it was encoded from.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from mama.config import LossConfig
from mama.data.pairs import Batch
from mama.model import MaMA
from mama.objective import EMBEDDINGS, Encoded, encode, joined, losses, weighted_sum
from mama.workers import counted_once, gathered

Autocast = Callable[[], AbstractContextManager]


class RandomState:
    """The state of the generators that dropout draws from."""

    def __init__(self, device: torch.device):
        self._device = device
        self._cpu = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    def restore(self) -> None:
        """Draw again what was drawn since."""
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)


def add_gradient(
    model: MaMA,
    batch: Batch,
    config: LossConfig,
    terms: Sequence[str],
    *,
    chunk: int | None = None,
    autocast: Autocast,
    scale: Callable[[Tensor], Tensor] = lambda loss: loss,
) -> tuple[dict[str, float], Encoded]:
    """Add the gradient of the weighted terms to the parameters' `grad`.

    With several processes `batch` is this one's share, the losses are those of the whole batch, and the gradients are
    still to be summed over the processes (`workers.sum_gradients`).

    Args:
        chunk: studies encoded at a time; None encodes all at once, without caching.
        autocast: makes the context of the forward pass.
        scale: applied to the total before the backward pass (accumulation, loss scaling).

    Returns:
        The terms and their weighted sum `loss` as numbers, and the batch's embeddings without a graph.
        Nothing is added when the loss is not finite.
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
    total = weighted_sum(values, config)
    numbers = {name: float(value.detach()) for name, value in values.items()}
    numbers["loss"] = float(total.detach())
    seen = Encoded(*(part.detach() for part in everyone))
    if not torch.isfinite(total):
        return numbers, seen
    scale(total).backward()
    if cached:
        _through_the_towers(model, batch, terms, chunk, autocast, own, states)
    return numbers, seen


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
    batch: Batch,
    terms: Sequence[str],
    chunk: int,
    autocast: Autocast,
    cached: Encoded,
    states: list[RandomState],
) -> None:
    taken = dict.fromkeys(EMBEDDINGS, 0)
    for part, state in zip(_chunks(batch, chunk), states, strict=True):
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
