"""Keys and signatures: only for their purpose, only by their key, never overwritten."""

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256, SHA512

from mama.errors import ConfigError, SignatureError
from mama.exchange.signing import (
    fingerprint,
    new_key,
    public_line,
    read_public_line,
    sign,
    verify,
    write_key_pair,
)


def test_a_signature_counts_for_its_key_purpose_and_data_only() -> None:
    key, other = new_key(), new_key()
    signature = sign(key, "roster-1", b"data")
    verify(key.public_key(), "roster-1", b"data", signature)
    for public, purpose, data in [
        (other.public_key(), "roster-1", b"data"),
        (key.public_key(), "roster-2", b"data"),
        (key.public_key(), "roster-1", b"Data"),
        # What separates purpose and data cannot move.
        (key.public_key(), "roster-1\x00d", b"ata"),
    ]:
        with pytest.raises(SignatureError):
            verify(public, purpose, data, signature)
    with pytest.raises(SignatureError):
        verify(key.public_key(), "roster-1", b"data", signature[:-1] + bytes([signature[-1] ^ 1]))


def test_a_signature_over_the_bare_data_does_not_count() -> None:
    """Flower's node authentication signs what the coordinator chooses to call a timestamp."""
    key = new_key()
    for algorithm in (SHA256(), SHA512()):
        bare = key.sign(b"data", ec.ECDSA(algorithm))
        with pytest.raises(SignatureError):
            verify(key.public_key(), "roster-1", b"data", bare)
    framed = key.sign(b"fedmama/roster-1\x00data", ec.ECDSA(SHA256()))
    with pytest.raises(SignatureError):
        verify(key.public_key(), "roster-1", b"data", framed)


def test_a_key_pair_on_disk(tmp_path: Path) -> None:
    private, public = tmp_path / "node.key", tmp_path / "node.pub"
    write_key_pair(private, public)
    assert stat.S_IMODE(private.stat().st_mode) == 0o600
    loaded = serialization.load_ssh_private_key(private.read_bytes(), password=None)
    assert isinstance(loaded, ec.EllipticCurvePrivateKey)
    assert loaded.curve.name == "secp384r1"
    line = public.read_text()
    assert line.startswith("ecdsa-sha2-nistp384 ")
    assert public_line(loaded.public_key()) == line.strip()
    again = read_public_line(line.strip() + " alice@hospital\n")
    assert fingerprint(again) == fingerprint(loaded.public_key())
    assert fingerprint(again) != fingerprint(new_key().public_key())
    before = private.read_bytes()
    with pytest.raises(ConfigError, match="a key already exists"):
        write_key_pair(private, public)
    assert private.read_bytes() == before


def test_other_keys_are_no_key_of_a_site() -> None:
    openssh = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    p256 = ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(*openssh)
    ed = ed25519.Ed25519PrivateKey.generate().public_key().public_bytes(*openssh)
    for line in (p256.decode(), ed.decode(), "", "ecdsa-sha2-nistp384 AAAA", "-----BEGIN"):
        with pytest.raises(ValueError, match="is no"):
            read_public_line(line)
