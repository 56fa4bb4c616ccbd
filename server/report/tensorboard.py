"""TensorBoard curves of a run, in `tensorboard/` of its folder; aggregates only."""

from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from server.run.events import Evaluated, Event, RoundDone


class Curves:
    """A listener that writes rounds and evaluations; it opens its file at the first of them."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._writer: SummaryWriter | None = None

    def __call__(self, event: Event) -> None:
        """Write an event's figures, if it has any."""
        if not isinstance(event, RoundDone | Evaluated):
            return
        for name, value in _figures(event).items():
            if self._writer is None:
                # A round repeated after a crash replaces its first figures.
                self._writer = SummaryWriter(str(self._folder), purge_step=event.round)
            self._writer.add_scalar(name, value, event.round)
        if self._writer is not None:
            self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        if self._writer is not None:
            self._writer.close()


def _figures(event: RoundDone | Evaluated) -> dict[str, float]:
    if isinstance(event, RoundDone):
        return {
            **{f"train/{term}": value for term, value in event.terms.items()},
            "round/seconds": event.seconds,
            "round/sites": len(event.sites),
            "round/bytes_up": sum(event.bytes_up.values()),
        }
    return {
        f"{method}/{label}_{name}": figures[name]
        for method, labels in event.federated.items()
        for label, figures in labels.items()
        for name in ("auc", "balanced_accuracy")
        if figures[name] is not None
    }
