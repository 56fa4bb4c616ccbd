"""The signature beside an answer: a site's enrolled key over the bytes that it sends, for one task.

The header is signed as it travels, not as it reads after parsing: run, round, task, site, protocol and status are in
it. The payload goes in by its hash, so that it is never copied.
"""

import hashlib

from mama.errors import SignatureError
from mama.exchange.protocol import Task
from mama.signing import PrivateKey, PublicKey, sign, verify

PURPOSE = "answer-1"
# Hex digits; the DER form of two P-384 numbers is far shorter.
MAX_SIGNATURE = 512


def sign_answer(key: PrivateKey, task: Task, header: str, payload: bytes) -> str:
    """The signature of an answer to `task`, in hex."""
    return sign(key, PURPOSE, _statement(task, header, payload)).hex()


def verify_answer(key: PublicKey, task: Task, header: str, payload: bytes, signature: str) -> None:
    """Check the signature of an answer to `task`.

    Raises:
        SignatureError: it is not one of this key, over these bytes, for this task.
    """
    try:
        if len(signature) > MAX_SIGNATURE:
            raise ValueError
        data = bytes.fromhex(signature)
    except ValueError:
        raise SignatureError("the signature is not in hex") from None
    verify(key, PURPOSE, _statement(task, header, payload), data)


def _statement(task: Task, header: str, payload: bytes) -> bytes:
    # Every part has a fixed length but the last.
    parts = (task.nonce or "-" * 32, _sha256(header.encode()), _sha256(payload), task.kind)
    return "/".join(parts).encode()


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
