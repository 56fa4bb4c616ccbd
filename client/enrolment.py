"""A new site: its folder, key pair and site file. The private key is made here and never travels."""

import os
from pathlib import Path

import yaml
from cryptography import x509

from client.sitefile import SiteFile
from mama.configfile import build
from mama.errors import ConfigError
from mama.files import write_bytes
from mama.signing import PublicKey, fingerprint, write_key_pair


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
    write_bytes(folder / "ca.crt", certificate.read_bytes(), private=True)
    # Last: a folder with a site file is a whole one.
    write_bytes(path, yaml.safe_dump(settings, sort_keys=False).encode(), private=True)
    return folder / "node.pub"


def authority_key(certificate: Path) -> PublicKey:
    """The public key of the federation's authority.

    Raises:
        ConfigError: the file holds no such certificate.
    """
    try:
        key = x509.load_pem_x509_certificate(certificate.read_bytes()).public_key()
    except (OSError, ValueError):
        key = None
    if not isinstance(key, PublicKey):
        raise ConfigError(
            "holds no certificate of a federation",
            where=str(certificate),
            fix="Ask the coordinator for ca.crt",
        )
    return key
