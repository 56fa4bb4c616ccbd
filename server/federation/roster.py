"""Coordinator's roster on disk: enrolment and revocation of single sites."""

from pathlib import Path

from mama.config.load import build
from mama.errors import ConfigError
from mama.exchange.protocol import SiteName
from mama.exchange.roster import Member, Roster
from mama.exchange.signing import public_line, read_public_line
from mama.system.locks import locked
from server.federation.authority import pending_request, put_forward
from server.federation.certificates import read_certificate
from server.federation.home import Home


def read_roster(home: Home) -> Roster:
    """Read the roster and verify its signature.

    Raises:
        ConfigError: the federation is not provisioned.
        ProtocolError: the file was changed.
    """
    if not home.roster.exists():
        raise ConfigError(
            "is not provisioned", where=str(home.path), fix="Run `mama-server provision` first"
        )
    key = read_certificate(home.ca_certificate).public_key()
    return Roster.verified(home.roster.read_text(encoding="utf-8"), key)  # type: ignore[arg-type]


def newest_roster(home: Home) -> Roster:
    """Return the roster that is pending a signature, or else the one in use."""
    in_use, pending = read_roster(home), pending_request(home)
    return pending.roster if pending and pending.roster.version > in_use.version else in_use


def enrol(home: Home, site: SiteName, key_file: Path, share: float = 1.0) -> Roster:
    """Add a site by its public key; enrolling the same again changes nothing.

    Without `ca.key` on this machine the change is pending a signature
    (`server.federation.authority`), as is that of `revoke`.

    Raises:
        ConfigError: the key is missing, revoked or another site's, or the site has another key.
    """
    read_roster(home)  # raises before provisioning, when there is no folder to lock
    try:
        line = public_line(read_public_line(key_file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ConfigError(
            str(error), where=str(key_file), fix="Create one at the site with `mama-site init`"
        ) from None
    except OSError:
        raise ConfigError("cannot be read", where=str(key_file), fix="Give a .pub file") from None
    with locked(home.state / "roster.lock"):
        roster = newest_roster(home)
        for member in roster.members:
            if member.public_key == line and member.status == "revoked":
                raise ConfigError(
                    "this key was revoked", where=site, fix="The site needs a new key pair"
                )
            if member.public_key == line and member.site != site:
                raise ConfigError(f"this key is {member.site}'s", where=site)
            if member.status == "active" and member.site == site and member.public_key != line:
                raise ConfigError("is enrolled with another key", where=site, fix="Revoke it first")
        added = build(Member, {"site": site, "public_key": line, "share": share}, where=site)
        known = [member.public_key for member in roster.members]
        at = known.index(line) if line in known else len(known)
        return _changed(home, roster, (*roster.members[:at], added, *roster.members[at + 1 :]))


def revoke(home: Home, site: SiteName) -> Roster:
    """Revoke a site's key for good; its name may be enrolled again with a new key.

    Raises:
        ConfigError: the site is not enrolled.
    """
    read_roster(home)  # raises before provisioning, when there is no folder to lock
    with locked(home.state / "roster.lock"):
        roster = newest_roster(home)
        if site not in {member.site for member in roster.active}:
            names = ", ".join(member.site for member in roster.active) or "none"
            raise ConfigError("is not enrolled", where=site, fix=f"Enrolled sites: {names}")
        members = tuple(
            m.model_copy(update={"status": "revoked"}) if m.site == site else m
            for m in roster.members
        )
        return _changed(home, roster, members)


def _changed(home: Home, roster: Roster, members: tuple[Member, ...]) -> Roster:
    if members == roster.members:
        return roster
    changed = Roster(federation=roster.federation, version=roster.version + 1, members=members)
    put_forward(home, changed)
    return changed
