"""Set-up of a new site: folder, key pair and site file; the private key never leaves the site."""

import os
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from client.site.config import CoordinatorConfig, SiteFile
from mama.config.load import build
from mama.errors import ConfigError
from mama.exchange.signing import PrivateKey, PublicKey, fingerprint, write_key_pair
from mama.system.files import write_bytes


def init_site(folder: Path, name: str, source: Path, address: str, certificate: Path) -> Path:
    """Make a site's folder (mode 0700) with a site file and a key pair (mode 0600).

    Args:
        folder: the folder to make.
        name: the site's name.
        source: the hospital's folder of images and reports.
        address: the coordinator's host:port.
        certificate: the federation authority's certificate, as the coordinator sent it.

    Returns:
        The public key's file.

    Raises:
        ConfigError: the folder already contains a site, or an argument is invalid.
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
    # Last: the site file marks the folder as complete.
    write_bytes(path, yaml.safe_dump(settings, sort_keys=False).encode())
    return folder / "node.pub"


def new_key_pair(key: Path) -> Path:
    """Make a new key pair for a site whose key was lost or revoked.

    The previous pair is renamed with the suffix .before.

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
    """Read a site's private key.

    Raises:
        ConfigError: the file contains none.
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
    """Read the public key of the federation's authority.

    Raises:
        ConfigError: the file contains no such certificate.
    """
    return _authority(certificate)[1]


def _authority(path: Path) -> tuple[x509.Certificate, PublicKey]:
    try:
        # TLS would trust several, while only the first is compared with the pin.
        (certificate,) = x509.load_pem_x509_certificates(path.read_bytes())
        key = certificate.public_key()
    except OSError as error:
        raise ConfigError(
            f"the federation's certificate cannot be read ({error.strerror})",
            where=str(path),
            fix="Give the path of the coordinator's ca.crt",
        ) from None
    except ValueError:
        key = None
    if not isinstance(key, PublicKey):
        raise ConfigError(
            "does not hold the one certificate of a federation",
            where=str(path),
            fix="Ask the coordinator for ca.crt",
        )
    return certificate, key


def pinned_key(coordinator: CoordinatorConfig) -> PublicKey:
    """Return the public key of the authority that the site file pins.

    Raises:
        ConfigError: the certificate does not match the pin, or cannot be read.
    """
    return _pinned(coordinator)[1]


def pinned_certificate(coordinator: CoordinatorConfig) -> str:
    """Return the PEM certificate of the authority that the site file pins.

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
