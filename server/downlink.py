"""What each site is sent of the global model: only the change where it holds an earlier one, else all of it."""

from collections.abc import Sequence
from pathlib import Path

from mama.config_federation import ExchangeConfig
from mama.exchange.block import digest_of
from mama.exchange.change import encode_change


class Downlink:
    """The newest global model as blocks. Sites say what they hold; whoever says nothing gets the whole model.

    Both kinds lead to the same bits at a site, so nothing of this is needed to resume a run. Models stay in their
    files, so that they take no memory while updates are folded; the last change made, with `down: delta`, is kept.

    Args:
        models: files of global models, each a block, the newest last. A change starts from any that is still there.
    """

    def __init__(self, config: ExchangeConfig, models: Sequence[Path]):
        self._changes = config.down == "delta"
        self._files = {_digest(model): model for model in models}
        self._change: tuple[str, bytes] | None = None
        self._held: dict[str, str] = {}

    @property
    def digest(self) -> str:
        """The checksum of the newest global model."""
        return next(reversed(self._files))

    def publish(self, model: Path) -> None:
        """Take a round's result as the newest model."""
        there = {digest: file for digest, file in self._files.items() if file.exists()}
        digest = _digest(model)
        there.pop(digest, None)
        self._files, self._change = {**there, digest: model}, None

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
        newest = self._files[self.digest]
        if not self._changes or held not in self._files:
            return newest.read_bytes()
        if self._change is None or self._change[0] != held:
            before = self._files[held].read_bytes()
            self._change = held, encode_change(before, newest.read_bytes())
        return self._change[1]


def _digest(model: Path) -> str:
    with open(model, "rb") as handle:
        return digest_of(handle.read(4096))
