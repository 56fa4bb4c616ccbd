"""The site's end of the wire: the global model comes in, the coded update goes out, and the site's disk keeps what
both need from one round to the next."""

import logging
import re

import numpy as np
import torch

from client.refused import RefusedError
from client.sitefile import SiteFile
from client.states import RoundStates
from mama.checkpoint import load_tensors, save_tensors
from mama.config_federation import ExchangeConfig
from mama.errors import ModelError, ProtocolError, TrainingError
from mama.exchange import change
from mama.exchange.arrays import Arrays
from mama.exchange.block import Shape, digest_of, unpack
from mama.exchange.codes import ErrorCode
from mama.exchange.coding import decode, decode_block, encode, uplink_codec
from mama.exchange.feedback import ErrorFeedback
from mama.files import write_bytes

logger = logging.getLogger("fedmama.client")


class Link:
    """One site's link to one run."""

    def __init__(self, site: SiteFile, run: str, config: ExchangeConfig):
        self.site, self.config = site, config
        self.model = site.run_folder(run) / "model.safetensors"
        self.residuals = RoundStates(site.run_folder(run) / "residual")
        # The checksum of the global model that was received.
        self.received = ""

    def holds(self) -> str | None:
        """The checksum of the global model on this site's disk, None where it keeps none."""
        if self.config.down == "full" or not self.model.exists():
            return None
        with open(self.model, "rb") as handle:
            digest = digest_of(handle.read(4096))
        return digest if re.fullmatch("[0-9a-f]{64}", digest) else None

    def receive(self, payload: bytes, shapes: dict[str, Shape]) -> Arrays:
        """The global model that the server sent, whole or as the change to the one on this site's disk.

        Raises:
            ProtocolError: the payload is damaged or does not hold these tensors.
            RefusedError: it is the change to a model that this site does not hold.
        """
        block = unpack(payload)
        if block.codec != change.NAME:
            arrays = decode_block(block, shapes)
            if self.config.down == "delta" and self.holds() != digest_of(payload):
                write_bytes(self.model, payload)
            self.received = digest_of(payload)
            return arrays
        held = self._held(shapes)
        if held is None or digest_of(held) not in (block.base, block.target):
            raise RefusedError(ErrorCode.NO_MODEL)
        if digest_of(held) != block.target:
            held = change.apply_change(block, held)
            write_bytes(self.model, held)
        self.received = digest_of(held)
        return decode(held, shapes)

    def send(self, update: Arrays, number: int) -> bytes:
        """The block of a round's update; what the codec loses of it is kept for the next round.

        Raises:
            TrainingError: the update is not finite.
        """
        if not all(np.isfinite(array).all() for array in update.values()):
            raise TrainingError(
                "the update is not finite", where=f"round {number}", fix="Lower optimiser.lr"
            )
        codec = uplink_codec(self.config)
        if not codec.lossy:
            return encode(update, codec)
        feedback = ErrorFeedback(self._residual(number))
        block = feedback.encode(update, codec)
        kept = {name: torch.from_numpy(array) for name, array in feedback.residual.items()}
        save_tensors(self.residuals.of(number), kept)
        self.residuals.keep(number)
        return block

    def _held(self, shapes: dict[str, Shape]) -> bytes | None:
        try:
            held = self.model.read_bytes()
            decode(held, shapes)
        except (OSError, ProtocolError):
            self.model.unlink(missing_ok=True)
            return None
        return held

    def _residual(self, number: int) -> Arrays:
        try:
            path = self.residuals.before(number)
            tensors = load_tensors(path)[0] if path else {}
        except ModelError as error:
            # It is worth one round's rounding, not the round.
            logger.warning("site %s, round %d: %s", self.site.site, number, error)
            tensors = {}
        return {name: tensor.numpy() for name, tensor in tensors.items()}
