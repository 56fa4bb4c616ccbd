"""Keys of one round, agreed between two sites via the coordinator, which learns none of them."""

import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mama.errors import ProtocolError
from mama.exchange.signing import PrivateKey, PublicKey

SCALAR = 48  # bytes of a P-384 private key
_NONCE = 12


def public_hex(key: PrivateKey) -> str:
    """Return a key's public half as a compressed point, in hex."""
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
        .hex()
    )


def read_public(text: str) -> PublicKey:
    """Return the public key of a compressed point in hex.

    Raises:
        ProtocolError: it is not a public key.
    """
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP384R1(), bytes.fromhex(text))
    except ValueError:
        raise ProtocolError("is not a public key of secure aggregation") from None


def scalar(key: PrivateKey) -> bytes:
    """Return a private key as 48 bytes, for secret sharing."""
    return key.private_numbers().private_value.to_bytes(SCALAR, "big")


def from_scalar(data: bytes) -> PrivateKey:
    """Return the private key of 48 bytes made by `scalar`.

    Raises:
        ProtocolError: it is not a private key.
    """
    try:
        return ec.derive_private_key(int.from_bytes(data, "big"), ec.SECP384R1())
    except ValueError:
        raise ProtocolError("is not a private key of secure aggregation") from None


def agreed(own: PrivateKey, other: PublicKey, purpose: str) -> bytes:
    """Return 32 bytes for one purpose that both sites of a pair compute (ECDH, HKDF-SHA256)."""
    return HKDF(SHA256(), 32, None, purpose.encode()).derive(own.exchange(ec.ECDH(), other))


def mask_purpose(context: str, one: str, other: str) -> str:
    """Return the purpose of a pair's mask, equal for both sites."""
    return "|".join([context, "mask", *sorted((one, other))])


def seal(key: bytes, data: bytes, purpose: str) -> bytes:
    """Encrypt with AES-256-GCM under a fresh nonce."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, data, purpose.encode())


def unseal(key: bytes, data: bytes, purpose: str) -> bytes:
    """Decrypt what `seal` encrypted.

    Raises:
        ProtocolError: it was modified, or is for another recipient or purpose.
    """
    try:
        return AESGCM(key).decrypt(data[:_NONCE], data[_NONCE:], purpose.encode())
    except (InvalidTag, ValueError):
        raise ProtocolError("a sealed share cannot be decrypted") from None
