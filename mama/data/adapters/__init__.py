"""Adapters: read the folder layouts of hospitals and public datasets into raw studies."""

from mama.data.adapters import dicom_folder, mias
from mama.data.adapters.public import PUBLIC
from mama.data.adapters.raw import Adapter, RawBox, RawDataset, RawImage, RawStudy, Skipped
from mama.errors import ConfigError

ADAPTERS: dict[str, Adapter] = {
    "dicom_folder": dicom_folder.read,
    "mias": mias.read,
    **PUBLIC,
}

__all__ = ["ADAPTERS", "Adapter", "RawBox", "RawDataset", "RawImage", "RawStudy", "Skipped", "find"]


def find(name: str) -> Adapter:
    """Return the adapter of that name.

    Raises:
        ConfigError: there is no such adapter.
    """
    if name not in ADAPTERS:
        choices = ", ".join(sorted(ADAPTERS))
        raise ConfigError(f"unknown adapter '{name}'", where="adapter", fix=f"Choose {choices}")
    return ADAPTERS[name]
