"""Configuration files and their models; `Experiment` is the coordinator's, equal at all sites."""

from mama.config.base import Section
from mama.config.experiment import AugmentConfig, ComputeConfig, Experiment, HeadsConfig
from mama.config.losses import LossConfig
from mama.config.towers import ImageTowerConfig, TextTowerConfig

__all__ = [
    "AugmentConfig",
    "ComputeConfig",
    "Experiment",
    "HeadsConfig",
    "ImageTowerConfig",
    "LossConfig",
    "Section",
    "TextTowerConfig",
]
