"""What each site is sent of the global model: only the change where it holds the model before, else all of it."""

from pathlib import Path

from mama.config_federation import ExchangeConfig
from mama.exchange.block import digest_of
from mama.exchange.change import encode_change


class Downlink:
    """The newest global model as blocks. Sites say what they hold; whoever says nothing gets the whole model.

    Both kinds lead to the same bits at a site, so nothing of this is needed to resume a run. The model stays in its
    file, so that it takes no memory while updates are folded; the change, with `down: delta`, is kept.

    Args:
        model: file of the newest global model, a block.
    """

    def __init__(self, config: ExchangeConfig, model: Path):
        self._changes = config.down == "delta"
        self._model, self._digest = model, _digest(model)
        self._change: tuple[str, bytes] | None = None
        self._held: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """The checksum of the newest global model."""
        return self._digest

    def publish(self, model: Path) -> None:
        """Take a round's result as the newest model; the file of the one before must still be there."""
        (before, base), self._change = (self._model, self._digest), None
        self._model, self._digest = model, _digest(model)
        if self._changes and base in self._held.values():
            self._change = base, encode_change(before.read_bytes(), model.read_bytes())

    def forget(self, site: str) -> None:
        """Take a site to hold nothing until it says so again."""
        self._held.pop(site, None)

    def learn(self, site: str, holds: str | None) -> None:
        """Remember which model a site says it holds."""
        if holds is not None:
            self._held[site] = holds

    def block_for(self, site: str) -> bytes:
        """The block that brings a site to the newest model."""
        held = self._held.get(site)
        if self._changes and held == self._digest:
            whole = self._model.read_bytes()
            return encode_change(whole, whole)
        if self._change is not None and held == self._change[0]:
            return self._change[1]
        return self._model.read_bytes()


def _digest(model: Path) -> str:
    with open(model, "rb") as handle:
        return digest_of(handle.read(4096))
