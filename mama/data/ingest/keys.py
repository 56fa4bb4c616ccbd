"""Key of a dataset's ids: an existing dataset keeps its own."""

from pathlib import Path

from mama.data.manifest import MANIFEST, Dataset
from mama.data.secret import make_secret, read_secret
from mama.errors import DataError


def known_key(secret: bytes | Path) -> bytes | None:
    """Return the key of a dataset's ids; None if there is none yet."""
    if isinstance(secret, bytes):
        return secret
    return read_secret(secret) if secret.exists() else None


def key_for(out: Path, secret: bytes | Path) -> bytes:
    """Return the key of a dataset's ids; an existing dataset keeps its key."""
    if isinstance(secret, bytes):
        return secret
    exists = (out / MANIFEST).exists() or secret.exists()
    return read_secret(secret) if exists else make_secret(secret)


def require_compatible(out: Path, key: bytes, long_side: int) -> None:
    """Refuse to add ids of another key or pictures of another size to an existing dataset."""
    if (out / MANIFEST).exists():
        try:
            dataset = Dataset(out)
        except DataError:
            return  # a damaged or older manifest is replaced entirely
        dataset.require_key(key)
        dataset.require_long_side(long_side)
