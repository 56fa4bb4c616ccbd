"""Model exchange of a site: decodes global models, encodes updates, keeps state between rounds."""

import re

import numpy as np
import torch

from client.errors import RefusedError
from client.site.config import SiteFile
from client.training.round_state import RoundStates
from mama.config.federation import ExchangeConfig
from mama.errors import ProtocolError, TrainingError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs import change
from mama.exchange.codecs.block import Shape, digest_of, unpack
from mama.exchange.codecs.coding import decode, decode_block, encode, uplink_codec
from mama.exchange.codecs.feedback import ErrorFeedback
from mama.exchange.codes import ErrorCode
from mama.system.files import write_bytes
from mama.system.tensors import save_tensors


class Link:
    """Model exchange of one site in one run."""

    def __init__(self, site: SiteFile, run: str, config: ExchangeConfig):
        self.site, self.config = site, config
        self.model = site.run_folder(run) / "model.safetensors"
        self.residuals = RoundStates(site.run_folder(run) / "residual")
        # Checksum of the received global model.
        self.received = ""

    def holds(self) -> str | None:
        """Return the checksum of the global model on this site's disk, or None."""
        if self.config.down == "full" or not self.model.exists():
            return None
        with open(self.model, "rb") as handle:
            digest = digest_of(handle.read(4096))
        return digest if re.fullmatch("[0-9a-f]{64}", digest) else None

    def receive(self, payload: bytes, shapes: dict[str, Shape]) -> Arrays:
        """Decode the global model, sent whole or as a delta to the one on this site's disk.

        Raises:
            ProtocolError: the payload is damaged or does not contain these tensors.
            RefusedError: the payload is a delta to a model that this site does not have.
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
        """Encode a round's update; the codec's error is stored for the next round.

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
        # A lost residual costs the rounding error of one round; failing would cost the round.
        tensors = self.residuals.read_before(number, self.site.site)
        return {name: tensor.numpy() for name, tensor in tensors.items()}
