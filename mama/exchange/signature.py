"""Signature of an answer: the site's enrolled key signs the sent bytes for one task.

The header is signed as sent, not as parsed, and contains run, round, task, site, protocol and
status. The payload is represented by its hash, so that it is never copied.
"""

import hashlib

from mama.errors import SignatureError
from mama.exchange.protocol import Task
from mama.exchange.signing import PrivateKey, PublicKey, sign, verify

PURPOSE = "answer-1"
# Hex digits; the DER encoding of two P-384 numbers is far shorter.
MAX_SIGNATURE = 512


def sign_answer(key: PrivateKey, task: Task, header: str, payload: bytes) -> str:
    """Return the signature of an answer to `task`, in hex."""
    return sign(key, PURPOSE, _statement(task, header, payload)).hex()


def verify_answer(key: PublicKey, task: Task, header: str, payload: bytes, signature: str) -> None:
    """Verify the signature of an answer to `task`.

    Raises:
        SignatureError: it was not made by this key over these bytes for this task.
    """
    try:
        if len(signature) > MAX_SIGNATURE:
            raise ValueError
        data = bytes.fromhex(signature)
    except ValueError:
        raise SignatureError("the signature is not in hex") from None
    verify(key, PURPOSE, _statement(task, header, payload), data)


def _statement(task: Task, header: str, payload: bytes) -> bytes:
    # All parts but the last have a fixed length.
    parts = (task.nonce or "-" * 32, _sha256(header.encode()), _sha256(payload), task.kind)
    return "/".join(parts).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
