"""Changes to entries of the site file."""

from pathlib import Path

from client.site.config import load_site
from mama.config import entry


def put_entries(path: Path, entries: dict[tuple[str, str], str]) -> None:
    """Set entries of the site file's top-level mappings and keep everything else.

    Args:
        path: the site file.
        entries: values by (section, name).

    Raises:
        ConfigError: the file is not a site file, or its layout requires editing by hand.
    """
    load_site(path)
    entry.put_entries(path, entries)
