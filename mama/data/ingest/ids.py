"""Keyed ids of patients, studies and images, without meaning outside the site."""

import hmac
import unicodedata
from hashlib import sha256

from mama.data.studies import Split

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
