"""A new site: its folder, key pair and site file. The private key is made here and never travels."""

import os
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from client.sitefile import CoordinatorConfig, SiteFile
from mama.configfile import build
from mama.errors import ConfigError
from mama.files import write_bytes
from mama.signing import PrivateKey, PublicKey, fingerprint, write_key_pair


def init_site(folder: Path, name: str, source: Path, address: str, certificate: Path) -> Path:
    """Make a site's folder (mode 0700) with a site file and a key pair (0600); returns the public key's file.

    Args:
        source: the hospital's folder of images and reports.
        address: the coordinator's host:port.
        certificate: the federation's authority, as the coordinator sent it.

    Raises:
        ConfigError: the folder holds a site already, or an argument is not what it should be.
    """
    path = folder / "site.yaml"
    if path.exists():
        raise ConfigError("holds a site already", where=str(folder), fix="Give another folder")
    settings = {
        "site": name,
        "data": {"source": str(source.resolve()), "dataset": "dataset"},
        "state": "state",
        "secret": "secret.key",
        "coordinator": {
            "address": address,
            "certificate": "ca.crt",
            "pin": fingerprint(authority_key(certificate)),
            "key": "node.key",
        },
    }
    build(SiteFile, settings, where=str(path))
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    write_key_pair(folder / "node.key", folder / "node.pub")
    write_bytes(folder / "ca.crt", certificate.read_bytes())
    # Last: a folder with a site file is a whole one.
    write_bytes(path, yaml.safe_dump(settings, sort_keys=False).encode())
    return folder / "node.pub"


def new_key_pair(key: Path) -> Path:
    """Make a site a new key pair, because its key was lost or revoked; the pair before gets the ending .before.

    Returns:
        The public key's file, to be enrolled.
    """
    public = key.with_suffix(".pub")
    for path in (key, public):
        if path.exists():
            path.replace(path.with_name(path.name + ".before"))
    write_key_pair(key, public)
    return public


def own_key(path: Path) -> PrivateKey:
    """A site's private key.

    Raises:
        ConfigError: the file holds none.
    """
    try:
        key = serialization.load_ssh_private_key(path.read_bytes(), None)
    except (OSError, ValueError):
        key = None
    if not isinstance(key, PrivateKey):
        raise ConfigError(
            "is no private key",
            where=str(path),
            fix="Correct `coordinator.key`, or use `mama-site new-key`",
        )
    return key


def authority_key(certificate: Path) -> PublicKey:
    """The public key of the federation's authority.

    Raises:
        ConfigError: the file holds no such certificate.
    """
    return _authority(certificate)[1]


def _authority(path: Path) -> tuple[x509.Certificate, PublicKey]:
    try:
        # More than one would be trusted for TLS, while only the first is compared with the pin.
        (certificate,) = x509.load_pem_x509_certificates(path.read_bytes())
        key = certificate.public_key()
    except (OSError, ValueError):
        key = None
    if not isinstance(key, PublicKey):
        raise ConfigError(
            "does not hold the one certificate of a federation",
            where=str(path),
            fix="Ask the coordinator for ca.crt",
        )
    return certificate, key


def pinned_key(coordinator: CoordinatorConfig) -> PublicKey:
    """The public key of the authority that the site file pins.

    Raises:
        ConfigError: the certificate beside the site file is another's, or none.
    """
    return _pinned(coordinator)[1]


def pinned_certificate(coordinator: CoordinatorConfig) -> str:
    """The certificate of the authority that the site file pins, as PEM.

    Raises:
        ConfigError: as `pinned_key`.
    """
    return _pinned(coordinator)[0].public_bytes(serialization.Encoding.PEM).decode()


def _pinned(coordinator: CoordinatorConfig) -> tuple[x509.Certificate, PublicKey]:
    certificate, key = _authority(coordinator.certificate)
    if fingerprint(key) != coordinator.pin:
        raise ConfigError(
            f"is not the pinned authority; its fingerprint is {fingerprint(key)}",
            where=str(coordinator.certificate),
            fix="Ask the coordinator by telephone, then correct coordinator.pin or the file",
        )
    return certificate, key
