"""The key of a site's pseudonyms: made once, by the first ingest, and never replaced in passing.

Under another key a withdrawn patient's line would name nobody, and the patient would be trained on again.
"""

import hmac
import secrets
from hashlib import sha256
from pathlib import Path

from mama.errors import DataError
from mama.files import write_bytes

LENGTH = 32  # bytes
# The ids' own messages hold a zero byte (mama.data.ingest), so that this is none of them.
_CHECK = b"fedmama key check"


def make_secret(path: Path) -> bytes:
    """A new key, in a file of mode 0600."""
    key = secrets.token_bytes(LENGTH)
    write_bytes(path, key, private=True)
    return key


def read_secret(path: Path) -> bytes:
    """The key in a file.

    Raises:
        DataError: there is none, or it is not of LENGTH bytes.
    """
    try:
        key = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"the key of the pseudonyms cannot be read ({type(error).__name__})",
            where=str(path),
            fix="Restore it from the backup; before the first ingest there is none",
        ) from None
    if len(key) != LENGTH:
        raise DataError(
            f"is no key of pseudonyms: it holds {len(key)} bytes, not {LENGTH}",
            where=str(path),
            fix="Restore it from the backup",
        )
    return key


def key_check(key: bytes) -> str:
    """A keyed hash of a fixed word, in hex: equal for equal keys, and tells nothing else of the key."""
    return hmac.digest(key, _CHECK, sha256).hex()
