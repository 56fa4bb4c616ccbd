"""Provisioning: everything a federation needs before its first site, made once. Sites come and go without it."""

import secrets
from pathlib import Path

from mama.files import write_bytes
from mama.signing import fingerprint, read_public_line
from server.certificates import (
    make_authority,
    make_server_certificate,
    make_site_certificate,
    read_certificate,
)
from server.federation import Home
from server.roster import read_roster, start_roster


def provision(home: Home) -> list[str]:
    """Make what is missing of authority, server certificate, secret and roster; returns what was made.

    What is there stays as it is, so that a repetition re-mints nothing.
    """
    home.state.mkdir(parents=True, exist_ok=True)
    home.state.chmod(0o700)
    made = []
    if not home.ca_certificate.exists():
        make_authority(home.file.name, home.ca_certificate, home.ca_key)
        made.append("certificate authority")
    if not home.certificate.exists():
        renew(home)
        made.append("server certificate")
    if not home.secret.exists():
        write_bytes(home.secret, secrets.token_hex(32).encode(), private=True)
        made.append("executor secret")
    if not home.roster.exists():
        start_roster(home)
        made.append("roster")
    return made


def pin(home: Home) -> str:
    """What hospitals pin: the fingerprint of the authority's key."""
    key = read_certificate(home.ca_certificate).public_key()
    return fingerprint(key)  # type: ignore[arg-type]


def issue(home: Home, site: str) -> Path:
    """A certificate for an enrolled site's own key, for a door that asks for one; returns its file."""
    (key,) = [m.public_key for m in read_roster(home).active if m.site == site]
    path = home.state / "sites" / f"{site}.crt"
    make_site_certificate(site, read_public_line(key), home.ca_certificate, home.ca_key, path)
    return path


def renew(home: Home) -> None:
    """A new server certificate from the same authority: sites notice nothing."""
    make_server_certificate(
        home.file.certificate_names,
        home.file.valid_days,
        home.ca_certificate,
        home.ca_key,
        home.certificate,
        home.key,
    )
