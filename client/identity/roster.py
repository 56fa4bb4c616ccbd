"""The site's copy of the federation's roster, verified against the pinned authority."""

import logging
from pathlib import Path

from client.errors import RefusedError
from client.identity.enrolment import own_key, pinned_key
from client.site.config import CoordinatorConfig, SiteFile
from mama.errors import IntegrityError, ProtocolError
from mama.exchange.codes import ErrorCode
from mama.exchange.roster import Roster
from mama.exchange.signing import public_line
from mama.system.files import write_text

logger = logging.getLogger("fedmama.client")


def read_roster(site: SiteFile) -> Roster | None:
    """Return the newest roster that this site received, verified again; None before the first.

    Raises:
        ConfigError: the authority's certificate is missing, or is not the pinned one.
        IntegrityError: the site's copy was changed or damaged.
    """
    if site.coordinator is None:
        return None
    path = _place(site, site.coordinator)
    if not path.exists():
        return None
    try:
        return Roster.verified(
            path.read_text(errors="replace", encoding="utf-8"), pinned_key(site.coordinator)
        )
    except ProtocolError as error:
        raise IntegrityError(
            f"the roster was changed or damaged: {error}",
            where=str(path),
            fix="Remove it; the next task brings the coordinator's",
        ) from None


def take_roster(site: SiteFile, signed: str | None) -> None:
    """Verify and store the roster of a task; does nothing in a simulation, which has no authority.

    Raises:
        RefusedError: the pinned authority did not sign it, it is older than a previous one, differs
            from another of its version, or has this site's key under another name.
        ConfigError: as `read_roster`, or the site has no key.
        IntegrityError: as `read_roster`.
    """
    if signed is None or site.coordinator is None:
        return
    known = read_roster(site)
    try:
        roster = Roster.verified(
            signed, pinned_key(site.coordinator), newest=known.version if known else 0
        )
        if known and known.version == roster.version and known != roster:
            raise ProtocolError(f"there are two rosters of version {roster.version}")
    except ProtocolError as error:
        logger.error("site %s: %s", site.site, error)
        raise RefusedError(ErrorCode.ROSTER) from None
    if roster != known:
        write_text(_place(site, site.coordinator), signed)
    _require_own_name(site, site.coordinator, roster)


def _require_own_name(site: SiteFile, coordinator: CoordinatorConfig, roster: Roster) -> None:
    """Refuse a roster with this site's key under another name: its answers would not count."""
    key = public_line(own_key(coordinator.key).public_key())
    name = next((m.site for m in roster.active if m.public_key == key), site.site)
    if name != site.site:
        logger.error("site %s: the coordinator enrolled this key as '%s'", site.site, name)
        raise RefusedError(ErrorCode.ROSTER)


def _place(site: SiteFile, coordinator: CoordinatorConfig) -> Path:
    # Named by the authority's pin: every federation has its own roster and versions.
    return site.state / "service" / "rosters" / f"{coordinator.pin}.json"
