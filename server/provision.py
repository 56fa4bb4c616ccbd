"""Provisioning: everything a federation needs before its first site, made once. Sites come and go without it."""

import os
import secrets

from mama.errors import ConfigError
from mama.exchange.roster import Roster
from mama.files import write_bytes
from mama.locks import locked
from mama.signing import fingerprint
from server.certificates import is_encrypted, make_authority, read_certificate
from server.federation import Home
from server.roster import newest_roster
from server.signature import new_server_key, put_forward


def provision(home: Home, *, encrypted: bool = False) -> list[str]:
    """Make what is missing of authority, server certificate, secret and roster; returns what was made.

    What is there stays as it is, so that a repetition re-mints nothing.

    Args:
        encrypted: keep the authority's key under `home.passphrase`.

    Raises:
        ConfigError: the authority's certificate is gone and its key is not, its key is needed and not here, or it is
            to be encrypted and exists as it is.
    """
    home.state.mkdir(parents=True, exist_ok=True)
    home.state.chmod(0o700)
    made = []
    if encrypted and home.ca_key.exists() and not is_encrypted(home.ca_key):
        raise ConfigError(
            "exists already, without a passphrase",
            where=str(home.ca_key),
            fix="Give it one with `openssl pkey` (docs/coordinator.md)",
        )
    if not home.ca_certificate.exists():
        if home.ca_key.exists():
            raise ConfigError(
                "is missing beside ca.key",
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
            f"is missing, and the {missing[0]} needs it",
            where=str(home.ca_key),
            fix="Bring it back for this command",
        )
    if missing:
        roster = newest_roster(home) if home.roster.exists() else Roster(federation=home.file.name)
        put_forward(home, roster, new_server_key(home) if missing[0] != "roster" else None)
    if not home.secret.exists():
        write_bytes(home.secret, secrets.token_hex(32).encode(), private=True)
        missing.insert(len(missing) - ("roster" in missing), "executor secret")
    return made + missing


def pin(home: Home) -> str:
    """What hospitals pin: the fingerprint of the authority's key."""
    key = read_certificate(home.ca_certificate).public_key()
    return fingerprint(key)  # type: ignore[arg-type]


def renew(home: Home) -> None:
    """A new server certificate from the same authority: sites notice nothing."""
    newest_roster(home)  # before provisioning there is nothing to be locked
    with locked(home.state / "roster.lock"):
        put_forward(home, newest_roster(home), new_server_key(home))


def is_exposed(home: Home) -> bool:
    """True if the authority's key lies open to the user of this process, and so to all that runs as that user."""
    return os.access(home.ca_key, os.R_OK) and not is_encrypted(home.ca_key)
