"""Messages of the five waves of a round, bounded and validated as hostile input.

advertise   from each site: public keys for this round, signed with its enrolled key
share       to each site: all advertisements; from each: two sealed shares for every other site
mask        to each site: its sealed shares; from each: its masked update
agree       to each site: the list of survivors; from each: its signature of the list and of all
            advertisements
unmask      to each site: all signatures; from each: one share per site, of the seed of a survivor
            or of the mask key of a dropped site
"""

import hashlib
import json
from typing import Annotated, TypeVar

from pydantic import Field, ValidationError

from mama.config.base import Section, SiteName
from mama.errors import ProtocolError
from mama.exchange.protocol import Identifier, Sha256

Hex = Annotated[str, Field(pattern=r"^([0-9a-f]{2})*$", max_length=4096)]
MAX_SITES = 4096


class Terms(Section):
    """Terms that all sites of a round agree on; `context` names run and round to prevent reuse."""

    context: Annotated[str, Field(max_length=256)]
    threshold: int = Field(ge=2, le=MAX_SITES)
    bits: int = Field(ge=8, le=30)
    limit: float = Field(gt=0, le=1e6)


class Basis(Section):
    """Origin of an update: experiment hash, checksum of the received global model, run and round.

    Only updates of equal basis are summed: a peer that trained anything else would hide nothing.
    """

    experiment: Sha256
    model: Sha256
    run: Identifier
    round: int = Field(ge=0, le=10**6)


class Advertisement(Section):
    """Advertisement of a site for a round.

    It contains the basis of the update, the digest of the roster by which the site knows its peers,
    public keys for masks and shares, the digest of its seed, and its weight.
    """

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
        """Return the bytes that the signature covers."""
        return self.model_dump_json(exclude={"signature"}).encode()


class Advertisements(Section):
    """Advertisements of all sites of the round, from the coordinator."""

    terms: Terms
    sites: Annotated[list[Advertisement], Field(min_length=1, max_length=MAX_SITES)]

    def digest(self) -> str:
        """Return the SHA-256 of all terms and advertisements in hex, whatever the sites' order."""
        ordered = sorted(self.sites, key=lambda advertisement: advertisement.site)
        return hashlib.sha256(
            self.model_copy(update={"sites": ordered}).model_dump_json().encode()
        ).hexdigest()


class Packets(Section):
    """Sealed shares by the site at the other end of the pair."""

    packets: Annotated[dict[SiteName, Hex], Field(max_length=MAX_SITES)]


class Roll(Section):
    """Survivors, whose masked updates arrived, and sites that dropped out after sending shares."""

    survivors: Annotated[list[SiteName], Field(max_length=MAX_SITES)]
    dropped: Annotated[list[SiteName], Field(max_length=MAX_SITES)]

    def signed_part(self, context: str, cohort: str) -> bytes:
        """Return the bytes that a consenting site signs; `cohort` digests the advertisements."""
        signed = {"context": context, "cohort": cohort, "survivors": sorted(self.survivors)}
        return json.dumps(signed | {"dropped": sorted(self.dropped)}).encode()


class Consent(Section):
    """A site's signature of the roll that it received."""

    signature: Hex


class Consents(Section):
    """Consents of all sites; two rolls of a round cannot both have those of a majority of sites."""

    consents: Annotated[dict[SiteName, Consent], Field(max_length=MAX_SITES)]


class Shares(Section):
    """Opened shares by site: of a survivor's seed, or of a dropped site's mask key."""

    shares: Annotated[dict[SiteName, Hex], Field(max_length=MAX_SITES)]


Message = TypeVar("Message", bound=Section)


def read_message(kind: type[Message], payload: bytes) -> Message:
    """Validate a wave's message from the other side.

    Raises:
        ProtocolError: it is not of this kind.
    """
    try:
        return kind.model_validate_json(payload)
    except ValidationError:
        raise ProtocolError("does not follow the protocol") from None


SIGNED, AGREED = "secure-aggregation-2", "secure-aggregation-roll-2"
