"""Keys of one round: agreed between two sites over the coordinator, which learns none of them."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mama.errors import ProtocolError
from mama.signing import PrivateKey, PublicKey

SCALAR = 48  # bytes of a P-384 private key
_NONCE = 12


def public_hex(key: PrivateKey) -> str:
    """A key's public half as a compressed point, in hex."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        .hex()
    )


def read_public(text: str) -> PublicKey:
    """The key of such a text.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), bytes.fromhex(text))
    except ValueError:
        raise ProtocolError("is no public key of secure aggregation") from None


def scalar(key: PrivateKey) -> bytes:
    """A private key as 48 bytes, to be shared out."""
    return key.private_numbers().private_value.to_bytes(SCALAR, "big")


def from_scalar(data: bytes) -> PrivateKey:
    """The key of `scalar`.

    Raises:
        ProtocolError: it is none.
    """
    try:
        return ec.derive_private_key(int.from_bytes(data, "big"), ec.SECP384R1())
    except ValueError:
        raise ProtocolError("is no private key of secure aggregation") from None


def agreed(own: PrivateKey, other: PublicKey, purpose: str) -> bytes:
    """32 bytes that both ends of a pair compute (ECDH, HKDF-SHA256), and that are for one purpose alone."""
    return HKDF(SHA256(), 32, None, purpose.encode()).derive(own.exchange(ec.ECDH(), other))


def mask_purpose(context: str, one: str, other: str) -> str:
    """The same for both ends of a pair."""
    return "|".join([context, "mask", *sorted((one, other))])


def seal(key: bytes, data: bytes, purpose: str) -> bytes:
    """AES-256-GCM under a fresh nonce."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, data, purpose.encode())


def unseal(key: bytes, data: bytes, purpose: str) -> bytes:
    """What `seal` sealed.

    Raises:
        ProtocolError: it was changed, or is for another.
    """
    try:
        return AESGCM(key).decrypt(data[:_NONCE], data[_NONCE:], purpose.encode())
    except (InvalidTag, ValueError):
        raise ProtocolError("a sealed share does not open") from None
