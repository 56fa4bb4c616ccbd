"""A site's part in secure aggregation: its message in each wave, and its refusals.

An update leaves the site only under masks that cancel in the sum of all. The site reveals one share
per peer, once: of the peer's seed if its update is in the sum, otherwise of its key; both together
would expose the peer's update. Secrets are on disk between waves, readable only by the owner, and
are removed when the round ends.
"""

import hashlib
import os
import shutil
from pathlib import Path

from flwr.common.secure_aggregation.crypto.shamir import create_shares
from pydantic import ValidationError

from client.errors import RefusedError
from client.identity.peers import Peers
from mama.config.base import Section
from mama.errors import ProtocolError, SignatureError
from mama.exchange.arrays import Arrays
from mama.exchange.codes import ErrorCode
from mama.exchange.secagg import keys
from mama.exchange.secagg.masks import add_mask
from mama.exchange.secagg.messages import (
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
from mama.exchange.secagg.quantise import largest_bits, quantise, scales_of
from mama.exchange.signing import new_key, public_line, sign, verify
from mama.system.sealed import read_if_whole, write_sealed

SEED = 32  # bytes


class _Secrets(Section):
    """A site's secrets between waves."""

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
        folder: folder of the round's secrets, separate for each round.
        site: the site's name.
        peers: the site's key and limits, and its peers' public keys.

    Raises:
        ProtocolError: in any wave, if a message is invalid; the site then leaves the round.
        RefusedError: likewise, if too few sites are left, the terms are weaker than this site
            allows, or a peer's update came from other training.
    """

    def __init__(self, folder: Path, site: str, peers: Peers):
        self.folder, self.site = folder, site
        self.identity, self.others, self.limits = peers

    def advertise(self, weight: float, terms: Terms, basis: Basis) -> Advertisement:
        """Make the round's keys; once per round.

        Args:
            weight: weight of the update in the mean.
            terms: terms of the round.
            basis: basis of the update that will be masked.
        """
        if terms.limit > self.limits.largest_limit or terms.bits < self.limits.least_bits:
            raise RefusedError(ErrorCode.SECURE_TERMS, "values would be coarser than it allows")
        if self._file.exists():
            raise ProtocolError("the round has begun already")
        mask_key, share_key, seed = new_key(), new_key(), os.urandom(SEED)
        own = Advertisement(
            site=self.site,
            context=terms.context,
            basis=basis,
            roster=self._roster(),
            mask_key=keys.public_hex(mask_key),
            share_key=keys.public_hex(share_key),
            seed_digest=hashlib.sha256(seed).hexdigest(),
            weight=weight,
        )
        signature = sign(self.identity, SIGNED, own.signed_part()).hex()
        own = own.model_copy(update={"signature": signature})
        self._keep(
            _Secrets(
                terms=terms,
                mask_key=keys.scalar(mask_key).hex(),
                share_key=keys.scalar(share_key).hex(),
                seed=seed.hex(),
                own=own,
            )
        )
        return own

    def share(self, cohort: Advertisements) -> Packets:
        """Check the participants and seal shares of this site's seed and mask key for each peer."""
        mine = self._at("advertised")
        if cohort.terms != mine.terms:
            raise ProtocolError("the terms have changed within the round")
        self._check(cohort, mine)
        peers = [one for one in cohort.sites if one.site != self.site]
        count, threshold = len(cohort.sites), cohort.terms.threshold
        of_seed = create_shares(bytes.fromhex(mine.seed), threshold, count)
        of_key = create_shares(bytes.fromhex(mine.mask_key), threshold, count)
        packets, held = {}, {self.site: (of_seed.pop() + of_key.pop()).hex()}
        for peer, seed, key in zip(peers, of_seed, of_key, strict=True):
            purpose = f"{mine.terms.context}|{self.site}|{peer.site}"
            packets[peer.site] = keys.seal(self._share_key(mine, peer), seed + key, purpose).hex()
        shared = {"stage": "shared", "sites": cohort.sites, "held": held}
        self._keep(mine.model_copy(update=shared | {"cohort": cohort.digest()}))
        return Packets(packets=packets)

    def masked(self, sealed: Packets, update: Arrays) -> bytes:
        """Open the shares of the remaining peers and mask the update for them; once per round.

        Returns:
            uint32 little-endian words.
        """
        mine = self._at("shared")
        known = {one.site: one for one in mine.sites if one.site != self.site}
        if not set(sealed.packets) <= set(known):
            raise ProtocolError("shares of a site that is not in the round")
        if len(sealed.packets) + 1 < self._least(mine.terms):
            raise RefusedError(ErrorCode.SECURE_TERMS, "too few sites are left")
        held = dict(mine.held)
        for name, packet in sealed.packets.items():
            purpose = f"{mine.terms.context}|{name}|{self.site}"
            key = self._share_key(mine, known[name])
            held[name] = keys.unseal(key, bytes.fromhex(packet), purpose).hex()
        # Before the answer: a second one, for other peers, would reveal the difference of masks.
        self._keep(mine.model_copy(update={"stage": "masked", "held": held}))
        scales = scales_of({one.site: one.weight for one in mine.sites})
        vector = quantise(update, scales[self.site], mine.terms.limit, mine.terms.bits)
        add_mask(vector, bytes.fromhex(mine.seed), 1)
        own = keys.from_scalar(bytes.fromhex(mine.mask_key))
        for name in sealed.packets:
            other = keys.read_public(known[name].mask_key)
            key = keys.agreed(own, other, keys.mask_purpose(mine.terms.context, self.site, name))
            add_mask(vector, key, 1 if self.site < name else -1)
        return vector.astype("<u4").tobytes()

    def agree(self, roll: Roll) -> Consent:
        """Sign the sites in the sum, the dropped ones, and all advertisements; once per round."""
        mine = self._at("masked")
        survivors, dropped = set(roll.survivors), set(roll.dropped)
        both = survivors & dropped or len(survivors) < len(roll.survivors)
        if both or survivors | dropped != set(mine.held) or self.site not in survivors:
            raise ProtocolError("the roll is not of this round")
        if len(survivors) < self._least(mine.terms):
            raise RefusedError(ErrorCode.SECURE_TERMS, "too few sites are left")
        self._keep(mine.model_copy(update={"stage": "agreed", "roll": roll}))
        signature = sign(self.identity, AGREED, roll.signed_part(mine.terms.context, mine.cohort))
        return Consent(signature=signature.hex())

    def unmask(self, received: Consents) -> Shares:
        """Return one share per site, of a survivor's seed or a dropped site's key; once per round.

        Enough sites must have signed the same roll and peers as this one: sites that were shown
        different ones would together reveal both shares of a peer, or the shares of several sums.
        """
        mine = self._at("agreed")
        assert mine.roll is not None
        signed = [n for n, one in received.consents.items() if self._consents(n, one, mine)]
        if len(signed) < mine.terms.threshold:
            raise ProtocolError("too few sites were shown the same peers and survivors")
        self._keep(mine.model_copy(update={"stage": "unmasked"}))
        shares = {}
        for name, pair in mine.held.items():
            seed, key = _halves(bytes.fromhex(pair))
            shares[name] = (seed if name in mine.roll.survivors else key).hex()
        return Shares(shares=shares)

    def forget(self) -> None:
        """Remove the round's secrets."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _check(self, cohort: Advertisements, mine: _Secrets) -> None:
        names = [one.site for one in cohort.sites]
        if len(set(names)) < len(names) or mine.own not in cohort.sites:
            raise ProtocolError("this site is missing from its round, or a site is listed twice")
        if len(names) < self._least(cohort.terms) or cohort.terms.threshold > len(names):
            raise RefusedError(ErrorCode.SECURE_TERMS, "too few sites take part")
        if 2 * cohort.terms.threshold <= len(names):
            raise RefusedError(ErrorCode.SECURE_TERMS, "half of the sites could unmask the others")
        if cohort.terms.bits > largest_bits(len(names)):
            raise ProtocolError("the sum would overflow at this number of bits")
        for peer in cohort.sites:
            if peer.site == self.site:
                continue
            if peer.site not in self.others or peer.context != cohort.terms.context:
                raise ProtocolError("a site is not on this site's roster, or of another round")
            if (peer.basis, peer.roster) != (mine.own.basis, mine.own.roster):
                raise RefusedError(ErrorCode.SECURE_PEERS, f"{peer.site} trained something else")
            signature = bytes.fromhex(peer.signature)
            verify(self.others[peer.site], SIGNED, peer.signed_part(), signature)
            keys.read_public(peer.mask_key)
            keys.read_public(peer.share_key)

    def _consents(self, name: str, one: Consent, mine: _Secrets) -> bool:
        """Return whether a site of the round has signed this site's roll."""
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
        """Return the SHA-256 of all sites' names and keys, including this site's."""
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
            raise ProtocolError("the waves are out of order, or one was repeated")
        return kept


def _halves(pair: bytes) -> tuple[bytes, bytes]:
    """Split a share of a seed (4 + 48 bytes, 32 padded) from one of a key (4 + 64, 48 padded)."""
    return pair[:52], pair[52:]
