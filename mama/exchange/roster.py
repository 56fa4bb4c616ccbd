"""Roster of the sites in a federation, signed by the coordinator and verified by sites."""

import json
from typing import Annotated, Literal, Self

from pydantic import Field, ValidationError, model_validator

from mama.config import Section
from mama.errors import ProtocolError
from mama.exchange import signing
from mama.exchange.protocol import MAX_ROSTER, SiteName

PURPOSE = "roster-1"


class Member(Section):
    """One site of a federation.

    `public_key` is a line for `mama.exchange.signing.read_public_line`; `share` is the site's
    public weight, agreed in advance and never derived from its data.
    """

    site: SiteName
    public_key: Annotated[str, Field(max_length=1000)]
    share: float = Field(1.0, gt=0, le=1e6)
    status: Literal["active", "revoked"] = "active"


class Roster(Section):
    """All sites ever enrolled; each change increments `version`, and sites reject an older one."""

    federation: SiteName
    version: int = Field(0, ge=0)
    members: tuple[Member, ...] = ()

    @model_validator(mode="after")
    def _one_key_a_site(self) -> Self:
        active = [m.site for m in self.active]
        keys = [m.public_key for m in self.members]
        if len(set(active)) < len(active) or len(set(keys)) < len(keys):
            raise ValueError("a site or key is listed twice")
        return self

    @property
    def active(self) -> tuple[Member, ...]:
        """Members that take part."""
        return tuple(m for m in self.members if m.status == "active")

    def __str__(self) -> str:
        members = ", ".join(f"{m.site} (share {m.share:g})" for m in self.active)
        return f"{self.federation}, roster version {self.version}: {members or 'no site'}"

    def signed(self, key: signing.PrivateKey) -> str:
        """Return the signed roster as JSON."""
        text = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        signature = signing.sign(key, PURPOSE, text.encode())
        return json.dumps({"roster": text, "signature": signature.hex()})

    @classmethod
    def own(cls, text: str) -> Self:
        """Return the roster from the signer's own file, without verification."""
        return cls.model_validate_json(json.loads(text)["roster"])

    @classmethod
    def verified(cls, text: str, key: signing.PublicKey, *, newest: int = 0) -> Self:
        """Verify a signed roster from the other side.

        Args:
            text: the signed roster as JSON.
            key: the public key of the federation's authority.
            newest: the highest version seen so far.

        Raises:
            ProtocolError: not a roster, not signed with `key`, or older than one seen before.
        """
        try:
            if len(text) > MAX_ROSTER:
                raise ValueError
            envelope = json.loads(text)
            body, signature = envelope["roster"].encode(), bytes.fromhex(envelope["signature"])
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ProtocolError("is not a signed roster") from None
        signing.verify(key, PURPOSE, body, signature)
        try:
            roster = cls.model_validate_json(body)
        except ValidationError:
            raise ProtocolError("the roster does not follow the protocol") from None
        if roster.version < newest:
            raise ProtocolError(
                f"the roster's version {roster.version} is older than version {newest} seen before"
            )
        return roster
