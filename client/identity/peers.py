"""Public keys of the other sites, from the roster that the federation's authority signed."""

from typing import NamedTuple

from client.identity.enrolment import authority_key, own_key
from client.identity.roster import read_roster
from client.site.config import PeersConfig, SiteFile
from mama.errors import ConfigError, ProtocolError
from mama.exchange.roster import Roster
from mama.exchange.signing import PrivateKey, PublicKey, public_line, read_public_line


class Peers(NamedTuple):
    """This site's private key and limits, and the other active sites' public keys by name."""

    key: PrivateKey
    others: dict[str, PublicKey]
    limits: PeersConfig


def read_peers(site: SiteFile) -> Peers:
    """Return the keys of the roster that tasks bring, or in a simulation of `peers`.

    Raises:
        ConfigError: there are none, a file is invalid, or the roster has another key for this site.
        IntegrityError: the site's copy of the roster was changed or damaged.
    """
    config = site.peers or PeersConfig()
    roster = read_roster(site) if site.coordinator else _roster(config)
    if roster is None:
        raise ConfigError("there is no roster yet", fix="The coordinator's tasks bring it")
    key = own_key(site.coordinator.key if site.coordinator else config.key)
    keys = {member.site: read_public_line(member.public_key) for member in roster.active}
    own = keys.pop(site.site, None)
    if own is None or public_line(own) != public_line(key.public_key()):
        raise ConfigError("the roster does not have this site's key", where=site.site)
    return Peers(key, keys, config)


def _roster(config: PeersConfig) -> Roster:
    try:
        return Roster.verified(
            config.roster.read_text(encoding="utf-8"), authority_key(config.authority)
        )
    except (OSError, ValueError, ProtocolError):
        raise ConfigError(
            "is not a roster that the federation's authority signed", where=str(config.roster)
        ) from None
