"""Key pairs and signatures. A signature names its purpose, so that one made for another use never counts here.

Keys are EC P-384 in OpenSSH's format, the one in which a Flower node and `ssh-keygen -l` read them.
"""

import hashlib
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA512

from mama.errors import ConfigError, SignatureError
from mama.files import write_bytes

PrivateKey = ec.EllipticCurvePrivateKey
PublicKey = ec.EllipticCurvePublicKey
# Flower's node authentication signs bare timestamps with SHA-256: another hash and a prefix keep the uses apart.
_HASH = SHA512()


def new_key() -> PrivateKey:
    """A fresh P-384 key."""
    return ec.generate_private_key(ec.SECP384R1())


def write_key_pair(private: Path, public: Path) -> None:
    """Make a key pair: `private` with mode 0600, `public` as one line.

    Raises:
        ConfigError: there is one already; a lost key means a new enrolment, so none is overwritten.
    """
    for path in (private, public):
        if path.exists():
            raise ConfigError(
                "a key exists already", where=str(path), fix="Move it away to make a new one"
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
    """A public key as one line, `ecdsa-sha2-nistp384 AAAA...`."""
    return key.public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    ).decode()


def read_public_line(line: str) -> PublicKey:
    """The key of such a line; a comment after it is ignored.

    Raises:
        ValueError: it is no P-384 public key.
    """
    try:
        key = serialization.load_ssh_public_key(line.strip().encode())
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("is no public key in OpenSSH's format") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp384r1":
        raise ValueError("is no EC P-384 public key")
    return key


def fingerprint(key: PublicKey) -> str:
    """SHA-256 of the key's DER form in hex, what people compare by telephone and what a site pins."""
    der = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return hashlib.sha256(der).hexdigest()


def file_fingerprint(path: Path) -> str:
    """The fingerprint of the public key in a .pub file.

    Raises:
        ValueError: it holds no P-384 public key.
    """
    return fingerprint(read_public_line(path.read_text(encoding="utf-8")))


def sign(key: PrivateKey, purpose: str, data: bytes) -> bytes:
    """ECDSA (FIPS 186-5) over purpose and data."""
    return key.sign(_framed(purpose, data), ec.ECDSA(_HASH))


def verify(key: PublicKey, purpose: str, data: bytes, signature: bytes) -> None:
    """Check a signature made for `purpose`.

    Raises:
        SignatureError: it is not one of this key, over this data, for this purpose.
    """
    try:
        key.verify(signature, _framed(purpose, data), ec.ECDSA(_HASH))
    except InvalidSignature:
        raise SignatureError(f"the signature of the {purpose} is not valid") from None


def _framed(purpose: str, data: bytes) -> bytes:
    return b"fedmama/" + purpose.encode() + b"\x00" + data
