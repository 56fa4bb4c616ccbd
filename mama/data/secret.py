"""Pseudonym key of a site: created by the first ingest, never replaced implicitly.

With another key, the ids of withdrawn patients would not match, and they would be trained on again.
"""

import hmac
import secrets
from hashlib import sha256
from pathlib import Path

from mama.errors import DataError
from mama.system.files import write_bytes

LENGTH = 32  # bytes
# Messages of ids contain a zero byte (mama.data.ingest), so this can be none of them.
_CHECK = b"fedmama key check"


def make_secret(path: Path) -> bytes:
    """Create a key in a file of mode 0600."""
    key = secrets.token_bytes(LENGTH)
    write_bytes(path, key, private=True)
    return key


def read_secret(path: Path) -> bytes:
    """Return the key in a file.

    Raises:
        DataError: the file is missing, or its length is not LENGTH bytes.
    """
    try:
        key = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the pseudonym key cannot be read ({type(error).__name__})",
            where=str(path),
            fix="Restore it from the backup; the first ingest creates it",
        ) from None
    if len(key) != LENGTH:
        raise DataError(
            f"the pseudonym key has {len(key)} bytes, not {LENGTH}",
            where=str(path),
            fix="Restore it from the backup",
        )
    return key


def key_check(key: bytes) -> str:
    """Return a keyed hash of a fixed word, in hex: equal for equal keys, revealing nothing else."""
    return hmac.digest(key, _CHECK, sha256).hex()
