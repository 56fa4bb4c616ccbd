"""What the five waves of a round carry. Everything here comes from the other side and is bounded and checked.

advertise   a site's public keys for this round, signed with the key by which the others know it
share       all advertisements to each site; from each, two sealed shares for every other
masked      its sealed shares to each site; from each, its masked update
agree       who is left to each site; from each, its signature under that and under all advertisements
unmask      all signatures to each site; from each, one share of every site: of its seed, or of its key if it is gone
"""

import hashlib
import json
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from mama.errors import ProtocolError
from mama.exchange.protocol import Identifier, Sha256
from mama.section import Section, SiteName

Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=4096)]
MOST = 4096


class Terms(Section):
    """What all sites of a round agree on. `context` names run and round, so that nothing fits another."""

    context: Annotated[str, Field(max_length=256)]
    threshold: int = Field(ge=2, le=MOST)
    bits: int = Field(ge=8, le=30)
    limit: float = Field(gt=0, le=1e6)


class Basis(Section):
    """The training that an update came from: the experiment's hash, the received global model's checksum, run, round.

    Only updates of one basis are summed: a peer that trained anything else would hide nothing.
    """

    experiment: Sha256
    model: Sha256
    run: Identifier
    round: int = Field(ge=0, le=10**6)


class Advertisement(Section):
    """A site's word on a round: what its update came from, the digest of the roster that it knows its peers by, keys
    for masks and for shares, the digest of its seed, and its weight."""

    site: SiteName
    context: Annotated[str, Field(max_length=256)]
    basis: Basis
    roster: Sha256
    mask_key: Hex
    share_key: Hex
    seed_digest: Hex
    weight: float = Field(gt=0, le=1e9)
    signature: Hex = ""

    def signed_part(self) -> bytes:
        """What the signature covers."""
        return self.model_dump_json(exclude={"signature"}).encode()


class Advertisements(Section):
    """All sites of the round, from the coordinator."""

    terms: Terms
    sites: Annotated[list[Advertisement], Field(min_length=1, max_length=MOST)]

    def digest(self) -> str:
        """SHA-256 of all of it, in hex; the order of the sites does not count."""
        ordered = sorted(self.sites, key=lambda said: said.site)
        return hashlib.sha256(
            self.model_copy(update={"sites": ordered}).model_dump_json().encode()
        ).hexdigest()


class Packets(Section):
    """Sealed shares by the site at the other end."""

    packets: Annotated[dict[SiteName, Hex], Field(max_length=MOST)]


class Roll(Section):
    """Whose masked updates the coordinator has, and who sent shares but no update."""

    survivors: Annotated[list[SiteName], Field(max_length=MOST)]
    dropped: Annotated[list[SiteName], Field(max_length=MOST)]

    def signed_part(self, context: str, cohort: str) -> bytes:
        """What a site signs that agrees; `cohort` is the digest of the advertisements that it was shown."""
        one = {"context": context, "cohort": cohort, "survivors": sorted(self.survivors)}
        return json.dumps(one | {"dropped": sorted(self.dropped)}).encode()


class Consent(Section):
    """A site's signature under the roll that it was shown."""

    signature: Hex


class Consents(Section):
    """All sites' consents. Two rolls of one round cannot both have those of more than half of the sites."""

    consents: Annotated[dict[SiteName, Consent], Field(max_length=MOST)]


class Shares(Section):
    """One opened share a site: of a survivor's seed, or of a dropped site's mask key."""

    shares: Annotated[dict[SiteName, Hex], Field(max_length=MOST)]


Message = TypeVar("Message", bound=Section)


def read_message(kind: type[Message], payload: bytes) -> Message:
    """A wave's message from the other side.

    Raises:
        ProtocolError: it is none of this kind.
    """
    try:
        return kind.model_validate_json(payload)
    except ValidationError:
        raise ProtocolError("does not follow the protocol") from None


SIGNED, AGREED = "secure-aggregation-2", "secure-aggregation-roll-2"
