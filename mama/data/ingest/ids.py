"""Keyed ids of patients, studies and images, without meaning outside the site, and their key."""

import hmac
import unicodedata
from hashlib import sha256
from pathlib import Path

from mama.data.manifest import MANIFEST, Dataset
from mama.data.secret import make_secret, read_secret
from mama.data.studies import Split
from mama.errors import DataError

ID_LENGTH = 20  # hex digits; 80 bits make collisions negligible for any archive


def ids_of(secret: bytes, name: str) -> set[str]:
    """Return the manifest's ids for a patient or study of this name, in any Unicode form."""
    ids = Ids(secret)
    return {ids.of("patient", name), ids.of("study", name)}


class Ids:
    """Keyed hashes of one site."""

    def __init__(self, secret: bytes):
        if not secret:
            raise ValueError("the secret of a site must not be empty")
        self._secret = secret

    def of(self, kind: str, raw: str) -> str:
        """Return the id of a patient, study or image of this name."""
        return self._digest(kind, _normalised(raw)).hex()[:ID_LENGTH]

    def split(self, patient: str, test_fraction: float) -> Split:
        """Assign a split per patient, never per study; adding patients changes no assignment."""
        share = int.from_bytes(self._digest("split", _normalised(patient))[:8]) / 2**64
        return "test" if share < test_fraction else "train"

    def _digest(self, kind: str, raw: str) -> bytes:
        return hmac.digest(self._secret, f"{kind}\0{raw}".encode(), sha256)


def _normalised(raw: str) -> str:
    """Return the NFC form: a list of names may be typed on another machine than the source."""
    return unicodedata.normalize("NFC", raw).strip()


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
