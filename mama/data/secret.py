"""The key of a site's pseudonyms."""

import secrets
from pathlib import Path

from mama.errors import ConfigError
from mama.files import write_bytes

LENGTH = 32  # bytes


def read_secret(path: Path) -> bytes:
    """The key in a file, made with mode 0600 when there is none yet.

    Raises:
        ConfigError: the file is too short to be a key.
    """
    if not path.exists():
        write_bytes(path, secrets.token_bytes(LENGTH))
    key = path.read_bytes()
    if len(key) < LENGTH:
        raise ConfigError(
            f"holds fewer than {LENGTH} bytes",
            where=str(path),
            fix="Remove it to make a new one; that deals train and test patients anew",
        )
    return key
