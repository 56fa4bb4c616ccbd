"""Adapters turn the layouts in which hospitals and public datasets come into raw studies."""

from mama.data.adapters import dicom_folder, mias
from mama.data.adapters.raw import Adapter, RawDataset, RawImage, RawStudy, Skipped
from mama.errors import ConfigError

ADAPTERS: dict[str, Adapter] = {"dicom_folder": dicom_folder.read, "mias": mias.read}

__all__ = ["ADAPTERS", "Adapter", "RawDataset", "RawImage", "RawStudy", "Skipped", "find"]


def find(name: str) -> Adapter:
    """The adapter of that name."""
    if name not in ADAPTERS:
        choices = ", ".join(sorted(ADAPTERS))
        raise ConfigError(f"unknown adapter '{name}'", where="adapter", fix=f"Choose {choices}")
    return ADAPTERS[name]
