"""The coordinator's roster on disk: sites are added and revoked one at a time, and nothing else is made anew."""

from pathlib import Path

from mama.configfile import build
from mama.errors import ConfigError
from mama.exchange.protocol import SiteName
from mama.exchange.roster import Member, Roster
from mama.locks import locked
from mama.signing import public_line, read_public_line
from server.certificates import read_certificate
from server.federation import Home
from server.signature import put_forward, waiting_request


def read_roster(home: Home) -> Roster:
    """The roster, its signature checked.

    Raises:
        ConfigError: the federation is not provisioned.
        ProtocolError: somebody changed the file.
    """
    if not home.roster.exists():
        raise ConfigError(
            "is not provisioned", where=str(home.path), fix="Run `mama-server provision` first"
        )
    key = read_certificate(home.ca_certificate).public_key()
    return Roster.verified(home.roster.read_text(encoding="utf-8"), key)  # type: ignore[arg-type]


def newest_roster(home: Home) -> Roster:
    """The roster that still waits for a signature, or else the one in use."""
    in_use, waiting = read_roster(home), waiting_request(home)
    return waiting.roster if waiting and waiting.roster.version > in_use.version else in_use


def enrol(home: Home, site: SiteName, key_file: Path, share: float = 1.0) -> Roster:
    """Add a site by the public key that it made; enrolling the same again changes nothing.

    Without `ca.key` on this machine the change waits for a signature (`server.signature`), as `revoke` does.

    Raises:
        ConfigError: no such key, a key of another site or a revoked one, or the site has another key.
    """
    read_roster(home)  # before provisioning there is nothing to be locked
    try:
        line = public_line(read_public_line(key_file.read_text(encoding="utf-8")))
    except ValueError as error:
        raise ConfigError(
            str(error), where=str(key_file), fix="`mama-site init` makes one at the site"
        ) from None
    except OSError:
        raise ConfigError("cannot be read", where=str(key_file), fix="Give a .pub file") from None
    with locked(home.state / "roster.lock"):  # two administrators at once take turns
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
    """Take a site out; its key never comes back, its name may with a new one.

    Raises:
        ConfigError: no such site takes part.
    """
    read_roster(home)  # before provisioning there is nothing to be locked
    with locked(home.state / "roster.lock"):  # two administrators at once take turns
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
