"""Key pairs and signatures; a signature is bound to a purpose and invalid for any other.

Keys are EC P-384 in OpenSSH's format, which Flower nodes and `ssh-keygen -l` can read.
"""

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA512

from mama.errors import ConfigError, SignatureError
from mama.system.files import write_bytes

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey
# Flower's node authentication signs bare timestamps with SHA-256; another hash and a prefix
# separate the uses.
_HASH = SHA512()


def new_key() -> PrivateKey:
    """Return a new P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def write_key_pair(private: Path, public: Path) -> None:
    """Create a key pair: `private` with mode 0600, `public` as one line.

    Raises:
        ConfigError: a key exists; it is never overwritten, as its loss requires a new enrolment.
    """
    for path in (private, public):
        if path.exists():
            raise ConfigError(
                "a key already exists", where=str(path), fix="Move it away to create a new one"
            )
    key = new_key()
    write_bytes(
        private,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        ),
        private=True,
    )
    write_bytes(public, (public_line(key.public_key()) + "\n").encode(), private=False)


def public_line(key: PublicKey) -> str:
    """Return a public key as one line, `ecdsa-sha2-nistp384 AAAA...`."""
    return key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()


def read_public_line(line: str) -> PublicKey:
    """Return the key of a public line, ignoring a trailing comment.

    Raises:
        ValueError: it is not a P-384 public key.
    """
    try:
        key = serialization.load_ssh_public_key(line.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is not a public key in OpenSSH's format") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise ValueError("is not an EC P-384 public key")
    return key


def fingerprint(key: PublicKey) -> str:
    """Return the SHA-256 of the key's DER form in hex, which people compare and sites pin."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def file_fingerprint(path: Path) -> str:
    """Return the fingerprint of the public key in a .pub file.

    Raises:
        ValueError: it does not contain a P-384 public key.
    """
    return fingerprint(read_public_line(path.read_text(encoding="utf-8")))


def sign(key: PrivateKey, purpose: str, data: bytes) -> bytes:
    """Sign purpose and data with ECDSA (FIPS 186-5)."""
    return key.sign(_framed(purpose, data), ec.ECDSA(_HASH))


def verify(key: PublicKey, purpose: str, data: bytes, signature: bytes) -> None:
    """Verify a signature made for `purpose`.

    Raises:
        SignatureError: it was not made by this key over this data for this purpose.
    """
    try:
        key.verify(signature, _framed(purpose, data), ec.ECDSA(_HASH))
    except InvalidSignature:
        raise SignatureError(f"the signature of the {purpose} is not valid") from None


def _framed(purpose: str, data: bytes) -> bytes:
    return b"fedmama/" + purpose.encode() + b"\x00" + data
