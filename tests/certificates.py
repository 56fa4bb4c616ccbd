"""Certificates as files, for tests that need one of their own."""

from pathlib import Path

from mama.exchange.signing import new_key
from mama.system.files import write_bytes
from server.federation.certificates import Authority, write_private_key


def make_server_certificate(
    names: list[str],
    days: float,
    authority: Path,
    authority_key: Path,
    certificate: Path,
    key: Path,
) -> None:
    """A server's certificate and its key."""
    private = new_key()
    write_private_key(key, private)
    signer = Authority.read(authority, authority_key, lambda: b"")
    made = signer.server_certificate(names, days, private.public_key())
    write_bytes(certificate, made, private=False)
