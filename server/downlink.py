"""What each site is sent of the global model: only the change where it holds the model before, else all of it."""

from collections.abc import Iterable

from mama.config import ExchangeConfig
from mama.exchange.block import digest_of
from mama.exchange.change import encode_change
from mama.exchange.coding import encode
from mama.exchange.tensors import Arrays


class Downlink:
    """The newest global model as blocks. Sites say what they hold; whoever says nothing gets the whole model.

    Both kinds lead to the same bits at a site, so nothing of this is needed to resume a run. It keeps the
    model once and, with `down: delta`, its change.
    """

    def __init__(self, config: ExchangeConfig, arrays: Arrays):
        self._changes = config.down == "delta"
        self._whole = encode(arrays)
        self._change: tuple[str, bytes] | None = None
        self._held: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """The checksum of the newest global model."""
        return digest_of(self._whole)

    def publish(self, arrays: Arrays) -> None:
        """Take a round's result as the newest model."""
        before, self._whole = self._whole, encode(arrays)
        base, self._change = digest_of(before), None
        if self._changes and base in self._held.values():
            self._change = base, encode_change(before, self._whole)

    def forget(self, sites: Iterable[str]) -> None:
        """Take these sites to hold nothing until they say so again."""
        for site in sites:
            self._held.pop(site, None)

    def learn(self, site: str, holds: str | None) -> None:
        """Remember which model a site says it holds."""
        if holds is not None:
            self._held[site] = holds

    def block_for(self, site: str) -> bytes:
        """The block that brings a site to the newest model."""
        held = self._held.get(site)
        if self._changes and held == digest_of(self._whole):
            return encode_change(self._whole, self._whole)
        if self._change is not None and held == self._change[0]:
            return self._change[1]
        return self._whole
