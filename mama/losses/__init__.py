"""Losses of MaMA: image-text, image-image, second view-text and local alignment."""

from mama.losses.clip import clip_loss
from mama.losses.local_alignment import local_alignment_loss, packed_alignment_loss
from mama.losses.nt_xent import nt_xent_loss

__all__ = ["clip_loss", "local_alignment_loss", "nt_xent_loss", "packed_alignment_loss"]
