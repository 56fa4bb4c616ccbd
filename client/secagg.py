"""A site's end of secure aggregation: what it says in each wave, and what it refuses to say.

A site's update leaves it only under masks that cancel in the sum of all. It gives away one share a peer and once: of
the peer's seed, if its update is in the sum, or of its key, if not; both together would bare the peer's update.
Secrets lie on disk between waves, readable by the owner alone, and are removed when the round is over.
"""

import hashlib
import os
import shutil
from pathlib import Path

from flwr.common.secure_aggregation.crypto.shamir import create_shares
from pydantic import ValidationError

from client.peers import Peers
from client.refused import RefusedError
from mama.errors import ProtocolError, SignatureError
from mama.exchange.arrays import Arrays
from mama.exchange.codes import ErrorCode
from mama.sealed import read_if_whole, write_sealed
from mama.secagg import keys
from mama.secagg.masks import add_mask
from mama.secagg.messages import (
    AGREED,
    SIGNED,
    Advertisement,
    Advertisements,
    Basis,
    Consent,
    Consents,
    Packets,
    Roll,
    Shares,
    Terms,
)
from mama.secagg.quantise import largest_bits, quantise, scales_of
from mama.section import Section
from mama.signing import new_key, public_line, sign, verify

SEED = 32  # bytes


class _Secrets(Section):
    """What a site keeps from wave to wave."""

    terms: Terms
    mask_key: str
    share_key: str
    seed: str
    own: Advertisement
    sites: list[Advertisement] = []
    cohort: str = ""
    held: dict[str, str] = {}
    roll: Roll | None = None
    stage: str = "advertised"


class Participant:
    """One site in one round.

    Args:
        folder: where the round's secrets lie; one for each round.

    Raises:
        ProtocolError: from every wave, where something is not as it must be; the site then takes no further part.
        RefusedError: likewise, where too few sites are left, the terms are weaker than this site allows, or a peer's
            update came from other training.
    """

    def __init__(self, folder: Path, site: str, peers: Peers):
        self.folder, self.site = folder, site
        self.identity, self.others, self.limits = peers

    def advertise(self, weight: float, terms: Terms, basis: Basis) -> Advertisement:
        """Make the round's keys; once a round.

        Args:
            basis: of the update that is to be masked.
        """
        if terms.limit > self.limits.largest_limit or terms.bits < self.limits.least_bits:
            raise RefusedError(ErrorCode.SECURE_TERMS, "values would be coarser than it allows")
        if self._file.exists():
            raise ProtocolError("the round has begun already")
        mask_key, share_key, seed = new_key(), new_key(), os.urandom(SEED)
        said = Advertisement(
            site=self.site,
            context=terms.context,
            basis=basis,
            roster=self._roster(),
            mask_key=keys.public_hex(mask_key),
            share_key=keys.public_hex(share_key),
            seed_digest=hashlib.sha256(seed).hexdigest(),
            weight=weight,
        )
        signature = sign(self.identity, SIGNED, said.signed_part()).hex()
        said = said.model_copy(update={"signature": signature})
        self._keep(
            _Secrets(
                terms=terms,
                mask_key=keys.scalar(mask_key).hex(),
                share_key=keys.scalar(share_key).hex(),
                seed=seed.hex(),
                own=said,
            )
        )
        return said

    def share(self, asked: Advertisements) -> Packets:
        """Check who takes part, and seal for each other site a share of this one's seed and mask key."""
        mine = self._at("advertised")
        if asked.terms != mine.terms:
            raise ProtocolError("the terms have changed within the round")
        self._check(asked, mine)
        others = [said for said in asked.sites if said.site != self.site]
        count, threshold = len(asked.sites), asked.terms.threshold
        of_seed = create_shares(bytes.fromhex(mine.seed), threshold, count)
        of_key = create_shares(bytes.fromhex(mine.mask_key), threshold, count)
        packets, held = {}, {self.site: (of_seed.pop() + of_key.pop()).hex()}
        for said, seed, key in zip(others, of_seed, of_key, strict=True):
            purpose = f"{mine.terms.context}|{self.site}|{said.site}"
            packets[said.site] = keys.seal(self._share_key(mine, said), seed + key, purpose).hex()
        shared = {"stage": "shared", "sites": asked.sites, "held": held}
        self._keep(mine.model_copy(update=shared | {"cohort": asked.digest()}))
        return Packets(packets=packets)

    def masked(self, sealed: Packets, update: Arrays) -> bytes:
        """Open the shares of those who take part to the end, and mask the update for them; once a round.

        Returns:
            uint32 little-endian words.
        """
        mine = self._at("shared")
        known = {said.site: said for said in mine.sites if said.site != self.site}
        if not set(sealed.packets) <= set(known):
            raise ProtocolError("shares of a site that is not in the round")
        if len(sealed.packets) + 1 < self._least(mine.terms):
            raise RefusedError(ErrorCode.SECURE_TERMS, "too few sites are left")
        held = dict(mine.held)
        for name, packet in sealed.packets.items():
            purpose = f"{mine.terms.context}|{name}|{self.site}"
            key = self._share_key(mine, known[name])
            held[name] = keys.unseal(key, bytes.fromhex(packet), purpose).hex()
        # Before the answer: a second one, for other peers, would give the difference of masks away.
        self._keep(mine.model_copy(update={"stage": "masked", "held": held}))
        scales = scales_of({said.site: said.weight for said in mine.sites})
        vector = quantise(update, scales[self.site], mine.terms.limit, mine.terms.bits)
        add_mask(vector, bytes.fromhex(mine.seed), 1)
        own = keys.from_scalar(bytes.fromhex(mine.mask_key))
        for name in sealed.packets:
            other = keys.read_public(known[name].mask_key)
            key = keys.agreed(own, other, keys.mask_purpose(mine.terms.context, self.site, name))
            add_mask(vector, key, 1 if self.site < name else -1)
        return vector.astype("<u4").tobytes()

    def agree(self, roll: Roll) -> Consent:
        """Sign whose updates are in the sum and whose are not, and who was advertised; once a round."""
        mine = self._at("masked")
        survivors, dropped = set(roll.survivors), set(roll.dropped)
        both = survivors & dropped or len(survivors) < len(roll.survivors)
        if both or survivors | dropped != set(mine.held) or self.site not in survivors:
            raise ProtocolError("the roll is not that of this round")
        if len(survivors) < self._least(mine.terms):
            raise RefusedError(ErrorCode.SECURE_TERMS, "too few sites are left")
        self._keep(mine.model_copy(update={"stage": "agreed", "roll": roll}))
        signature = sign(self.identity, AGREED, roll.signed_part(mine.terms.context, mine.cohort))
        return Consent(signature=signature.hex())

    def unmask(self, shown: Consents) -> Shares:
        """One share of every site: of a survivor's seed or a dropped one's key; once a round.

        Only where enough sites have signed what this one has: shown different survivors or peers, they would give both
        shares, or those of sums of their own.
        """
        mine = self._at("agreed")
        assert mine.roll is not None
        signed = [name for name, one in shown.consents.items() if self._consents(name, one, mine)]
        if len(signed) < mine.terms.threshold:
            raise ProtocolError("too few sites were shown the same peers and survivors")
        self._keep(mine.model_copy(update={"stage": "unmasked"}))
        shares = {}
        for name, pair in mine.held.items():
            seed, key = _halves(bytes.fromhex(pair))
            shares[name] = (seed if name in mine.roll.survivors else key).hex()
        return Shares(shares=shares)

    def forget(self) -> None:
        """The round is over: remove its secrets."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check(self, asked: Advertisements, mine: _Secrets) -> None:
        names = [said.site for said in asked.sites]
        if len(set(names)) < len(names) or mine.own not in asked.sites:
            raise ProtocolError("this site is missing from its round, or a site is there twice")
        if len(names) < self._least(asked.terms) or asked.terms.threshold > len(names):
            raise RefusedError(ErrorCode.SECURE_TERMS, "too few sites take part")
        if 2 * asked.terms.threshold <= len(names):
            raise RefusedError(ErrorCode.SECURE_TERMS, "half of the sites could unmask the others")
        if asked.terms.bits > largest_bits(len(names)):
            raise ProtocolError("so many values of so many bits would overflow")
        for said in asked.sites:
            if said.site == self.site:
                continue
            if said.site not in self.others or said.context != asked.terms.context:
                raise ProtocolError("a site is not on this site's roster, or of another round")
            if (said.basis, said.roster) != (mine.own.basis, mine.own.roster):
                raise RefusedError(ErrorCode.SECURE_PEERS, f"{said.site} trained something else")
            signature = bytes.fromhex(said.signature)
            verify(self.others[said.site], SIGNED, said.signed_part(), signature)
            keys.read_public(said.mask_key)
            keys.read_public(said.share_key)

    def _consents(self, name: str, one: Consent, mine: _Secrets) -> bool:
        """Whether a site of the round has signed the roll that this site has."""
        assert mine.roll is not None
        public = self.identity.public_key() if name == self.site else self.others.get(name)
        if public is None or name not in mine.roll.survivors:
            return False
        try:
            data = mine.roll.signed_part(mine.terms.context, mine.cohort)
            verify(public, AGREED, data, bytes.fromhex(one.signature))
        except SignatureError:
            return False
        return True

    def _least(self, terms: Terms) -> int:
        return max(self.limits.minimum_sites, terms.threshold)

    def _roster(self) -> str:
        """SHA-256 of all sites' names and keys, this one's among them."""
        known = {**self.others, self.site: self.identity.public_key()}
        lines = [f"{name} {public_line(key)}" for name, key in sorted(known.items())]
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()

    def _share_key(self, mine: _Secrets, other: Advertisement) -> bytes:
        own = keys.from_scalar(bytes.fromhex(mine.share_key))
        return keys.agreed(own, keys.read_public(other.share_key), f"{mine.terms.context}|shares")

    @property
    def _file(self) -> Path:
        return self.folder / "secrets.json"

    def _keep(self, secrets: _Secrets) -> None:
        write_sealed(self._file, secrets.model_dump(mode="json"))

    def _at(self, stage: str) -> _Secrets:
        try:
            kept = _Secrets.model_validate(read_if_whole(self._file))
        except ValidationError:
            raise ProtocolError("the round has not begun at this site") from None
        if kept.stage != stage:
            raise ProtocolError("the waves are out of order, or one came twice")
        return kept


def _halves(pair: bytes) -> tuple[bytes, bytes]:
    """A share of a seed (4 + 48 bytes for 32 padded) and one of a key (4 + 64 bytes for 48 padded)."""
    return pair[:52], pair[52:]
