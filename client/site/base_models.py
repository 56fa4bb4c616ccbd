"""Base models brought to a site by hand and entered in its site file."""

from pathlib import Path

from client.site.edit import put_entries
from mama.towers.bases import Base, inspect


def add_base(site_file: Path, folder: Path, name: str | None, licence: str | None) -> Base:
    """Inspect a folder of base weights and enter it in the site file.

    Args:
        site_file: the site file to change.
        folder: folder of the base weights.
        name: the name that experiments use; None takes the folder's name.
        licence: the licence to record; None takes the first line of the licence file.

    Raises:
        ModelError: the folder contains pickles, no safetensors, damaged safetensors, or no licence
            while `licence` is None.
        ConfigError: experiments cannot use the name, or it cannot be written to the site file.
    """
    name, base = inspect(folder, name, licence)
    put_entries(site_file, base.entries(name))
    return base
