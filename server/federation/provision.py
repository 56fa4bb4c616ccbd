"""One-time provisioning of a federation, before its first site is enrolled."""

import os
import secrets

from mama.errors import ConfigError
from mama.exchange.roster import Roster
from mama.exchange.signing import fingerprint
from mama.system.files import write_bytes
from mama.system.locks import locked
from server.federation.authority import new_server_key, put_forward
from server.federation.certificates import is_encrypted, make_authority, read_certificate
from server.federation.home import Home
from server.federation.roster import newest_roster


def provision(home: Home, *, encrypted: bool = False) -> list[str]:
    """Create missing authority, server certificate, secret and roster; existing files are kept.

    Args:
        home: the federation.
        encrypted: encrypt the authority's key with `home.passphrase`.

    Returns:
        Names of the files created.

    Raises:
        ConfigError: the authority's certificate is missing but its key exists, its key is needed
            but missing, or it should be encrypted but exists unencrypted.
    """
    home.state.mkdir(parents=True, exist_ok=True)
    home.state.chmod(0o700)
    made = []
    if encrypted and home.ca_key.exists() and not is_encrypted(home.ca_key):
        raise ConfigError(
            "exists already, unencrypted",
            where=str(home.ca_key),
            fix="Encrypt it with `openssl pkey` (docs/coordinator.md)",
        )
    if not home.ca_certificate.exists():
        if home.ca_key.exists():
            raise ConfigError(
                "is missing, but ca.key exists",
                where=str(home.ca_certificate),
                fix="Restore it from your backup or from a site",
            )
        passphrase = home.passphrase() if encrypted else None
        make_authority(home.file.name, home.ca_certificate, home.ca_key, passphrase)
        made.append("certificate authority")
    missing = [
        name
        for name, path in (("server certificate", home.certificate), ("roster", home.roster))
        if not path.exists()
    ]
    if missing and not home.ca_key.exists():
        raise ConfigError(
            f"is missing, but needed to create the {missing[0]}",
            where=str(home.ca_key),
            fix="Copy it back for this command",
        )
    if missing:
        roster = newest_roster(home) if home.roster.exists() else Roster(federation=home.file.name)
        put_forward(home, roster, new_server_key(home) if missing[0] != "roster" else None)
    if not home.secret.exists():
        write_bytes(home.secret, secrets.token_hex(32).encode(), private=True)
        missing.insert(len(missing) - ("roster" in missing), "executor secret")
    return made + missing


def pin(home: Home) -> str:
    """Return the fingerprint of the authority's key, which sites pin."""
    key = read_certificate(home.ca_certificate).public_key()
    return fingerprint(key)  # type: ignore[arg-type]


def renew(home: Home) -> None:
    """Issue a new server certificate from the same authority; sites need no change."""
    newest_roster(home)  # raises before provisioning, when there is no folder to lock
    with locked(home.state / "roster.lock"):
        put_forward(home, newest_roster(home), new_server_key(home))


def is_exposed(home: Home) -> bool:
    """Return whether the authority's key is unencrypted and readable by this process's user."""
    return os.access(home.ca_key, os.R_OK) and not is_encrypted(home.ca_key)
