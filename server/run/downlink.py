"""Global model sent to each site: a delta if the site has an earlier model, else all of it."""

from collections.abc import Sequence
from pathlib import Path

from mama.config.federation import ExchangeConfig
from mama.exchange.codecs.block import digest_of
from mama.exchange.codecs.change import encode_change


class Downlink:
    """Newest global model as blocks, whole or as a delta from the model that a site reports.

    A site that reports none receives the whole model. Both give the same bits at a site, so a
    resumed run needs no state of this class. Models stay in their files and take no memory while
    updates are folded; the last delta, with `down: delta`, is kept.

    Args:
        config: of the exchange.
        models: files of global models, each a block, the newest last. A delta starts from any that
            still exists.
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
        """Assume that a site holds no model until it reports one again."""
        self._held.pop(site, None)

    def learn(self, site: str, holds: str | None) -> None:
        """Record the model that a site reports to hold."""
        if holds is not None:
            self._held[site] = holds

    def block_for(self, site: str) -> bytes:
        """Return the block that brings a site to the newest model."""
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
