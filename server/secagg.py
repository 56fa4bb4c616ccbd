"""The coordinator's end of secure aggregation: it passes on what it cannot read, and adds up what it cannot tell apart.

For a server that follows the protocol but is curious, and with fewer than `threshold` sites on its side.
Memory is one vector, however many sites there are.
"""

import hashlib
from collections.abc import Iterable, Mapping

import numpy as np
from flwr.common.secure_aggregation.crypto.shamir import combine_shares

from mama.errors import ProtocolError, QuorumError
from mama.exchange.block import Shape
from mama.exchange.tensors import Arrays
from mama.secagg import keys
from mama.secagg.masks import add_mask
from mama.secagg.messages import (
    Advertisement,
    Advertisements,
    Consent,
    Consents,
    Packets,
    Roll,
    Shares,
    Terms,
)
from mama.secagg.quantise import mean


class SecureSum:
    """One round: `join`, `packets`, `fold` and `reveal` take what sites send; between them the waves close.

    Args:
        weights: what each site's update counts, by the figures that came with it.

    A site that answers a wave late or badly is left out of the rest; with fewer than the threshold the round ends.

    Raises:
        ProtocolError: from a site's answer, which then does not count.
        QuorumError: too few sites are left; the round ends, the run does not.
    """

    def __init__(self, terms: Terms, shapes: Mapping[str, Shape], weights: Mapping[str, float]):
        self.terms, self.shapes, self.weights = terms, dict(shapes), weights
        self.size = sum(int(np.prod(shape)) for shape in shapes.values())
        self._said: dict[str, Advertisement] = {}
        self._packets: dict[str, dict[str, str]] = {}
        self._survivors: dict[str, Advertisement] = {}
        self._total = np.zeros(self.size, np.uint32)
        self._consents: dict[str, Consent] = {}
        self._shares: dict[str, list[bytes]] = {}
        self._heard: set[str] = set()

    def join(self, site: str, said: Advertisement) -> None:
        """Take a site's advertisement."""
        if said.site != site or said.context != self.terms.context or site in self._said:
            raise ProtocolError("is not this site's word on this round", where=site)
        if said.weight != self.weights.get(site):
            raise ProtocolError("counts by another weight than its answer's", where=site)
        # What every peer would stumble over ends here, with the one who sent it.
        keys.read_public(said.mask_key)
        keys.read_public(said.share_key)
        self._said[site] = said

    def advertisements(self) -> Advertisements:
        """What the second wave brings to all who joined."""
        self._require(self._said, "joined")
        return Advertisements(terms=self.terms, sites=[s for _, s in sorted(self._said.items())])

    def take_packets(self, site: str, sent: Packets) -> None:
        """Take a site's sealed shares."""
        if set(sent.packets) != set(self._said) - {site} or site in self._packets:
            raise ProtocolError("shares are not for the sites of this round", where=site)
        self._packets[site] = sent.packets

    def packets_for(self, site: str) -> Packets:
        """What the third wave brings to a site: the shares for it of all who sent shares."""
        return Packets(packets={s: p[site] for s, p in self._packets.items() if s != site})

    @property
    def sharing(self) -> list[str]:
        """The sites of the third wave."""
        self._require(self._packets, "sent shares")
        return sorted(self._packets)

    def fold(self, site: str, masked: bytes) -> None:
        """Add a masked update, in place."""
        if len(masked) != 4 * self.size or site not in self._packets or site in self._survivors:
            raise ProtocolError("is not a masked update of this round", where=site)
        self._total += np.frombuffer(masked, "<u4")
        self._survivors[site] = self._said[site]

    def roll(self) -> Roll:
        """What the fourth wave brings to all whose update is in the sum."""
        self._require(self._survivors, "sent an update")
        gone = set(self._packets) - set(self._survivors)
        return Roll(survivors=sorted(self._survivors), dropped=sorted(gone))

    def take_consent(self, site: str, sent: Consent) -> None:
        """Take a survivor's signature, which the others check."""
        if site not in self._survivors or site in self._consents:
            raise ProtocolError("is not the consent of a site of this round", where=site)
        self._consents[site] = sent

    def consents(self) -> Consents:
        """What the last wave brings to all who signed."""
        self._require(self._consents, "agreed on the survivors")
        return Consents(consents=self._consents)

    def take_shares(self, site: str, sent: Shares) -> None:
        """Take a survivor's shares of all others."""
        if (
            set(sent.shares) != set(self._packets)
            or site not in self._consents
            or site in self._heard
        ):
            raise ProtocolError("shares are not of the sites of this round", where=site)
        self._heard.add(site)
        for name, share in sent.shares.items():
            self._shares.setdefault(name, []).append(bytes.fromhex(share))

    def result(self) -> Arrays:
        """The weighted mean of the survivors' updates, once the masks are off.

        Raises:
            QuorumError: too few shares, or a share was wrong.
        """
        self._require(self._heard, "sent shares to unmask")
        for name in self._packets:
            secret = self._secret(name)
            if name in self._survivors:
                if hashlib.sha256(secret).hexdigest() != self._said[name].seed_digest:
                    raise QuorumError("a site sent a wrong share: the round cannot be unmasked")
                add_mask(self._total, secret, -1)
            else:
                self._take_off_pairs(name, secret)
        heaviest = max(said.weight for said in self._said.values())
        scales = sum(said.weight / heaviest for said in self._survivors.values())
        limit, bits = self.terms.limit, self.terms.bits
        return mean(self._total, self.shapes, len(self._survivors), scales, limit, bits)

    def _secret(self, name: str) -> bytes:
        shares = self._shares[name][: self.terms.threshold]
        try:
            if len({len(share) for share in shares}) != 1:
                raise ValueError
            return combine_shares(shares)
        except ValueError:
            raise QuorumError("a site sent a wrong share: the round cannot be unmasked") from None

    def _take_off_pairs(self, gone: str, secret: bytes) -> None:
        """Remove the masks that the survivors put on for a site which is gone."""
        try:
            key = keys.from_scalar(secret)
        except ProtocolError:
            key = None
        if key is None or keys.public_hex(key) != self._said[gone].mask_key:
            raise QuorumError("a site sent a wrong share: the round cannot be unmasked")
        for name, said in self._survivors.items():
            purpose = keys.mask_purpose(self.terms.context, gone, name)
            mask = keys.agreed(key, keys.read_public(said.mask_key), purpose)
            add_mask(self._total, mask, -1 if name < gone else 1)

    def _require(self, sites: Iterable[str], what: str) -> None:
        count = len(list(sites))
        if count < self.terms.threshold:
            raise QuorumError(f"{count} of at least {self.terms.threshold} sites {what}")
