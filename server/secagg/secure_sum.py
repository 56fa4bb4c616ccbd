"""Coordinator's side of secure aggregation.

It relays packets that it cannot read, and adds up updates that it cannot see in clear.

For a server that follows the protocol but is curious, and with fewer than `threshold` sites on its
side. Memory is one vector, however many sites there are.
"""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import numpy as np

from mama.errors import ProtocolError, QuorumError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import Shape
from mama.exchange.secagg import keys
from mama.exchange.secagg.masks import add_mask
from mama.exchange.secagg.messages import (
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
from mama.exchange.secagg.quantise import mean, scales_of
from server.secagg.shares import recovered


class SecureSum:
    """Secure sum of one round.

    `join`, `take_packets`, `fold`, `take_consent` and `take_shares` accept the sites' messages; the
    waves close between them. A site that answers a wave late or wrongly is excluded from the rest;
    below the threshold the round ends. After `result`, `blamed` has the fault of each site that
    sent wrong shares.

    Args:
        terms: of the round.
        basis: experiment, model, run and round of all updates.
        shapes: of the tensors of an update.
        weights: of each site's update, from its metrics.

    Raises:
        ProtocolError: from a site's answer, which then does not count.
        QuorumError: too few sites are left; the round ends, the run does not.
    """

    def __init__(
        self, terms: Terms, basis: Basis, shapes: Mapping[str, Shape], weights: Mapping[str, float]
    ):
        self.terms, self.basis, self.shapes, self.weights = terms, basis, dict(shapes), weights
        self.blamed: dict[str, str] = {}
        self.size = sum(int(np.prod(shape)) for shape in shapes.values())
        self._said: dict[str, Advertisement] = {}
        self._packets: dict[str, dict[str, str]] = {}
        self._survivors: dict[str, Advertisement] = {}
        self._total = np.zeros(self.size, np.uint32)
        self._consents: dict[str, Consent] = {}
        self._shares: dict[str, dict[str, bytes]] = {}
        self._heard: set[str] = set()

    def join(self, site: str, said: Advertisement) -> None:
        """Take a site's advertisement."""
        if said.site != site or said.context != self.terms.context or site in self._said:
            raise ProtocolError("is not this site's word on this round", where=site)
        if said.basis != self.basis:
            raise ProtocolError("holds an update of other training", where=site)
        if said.weight != self.weights.get(site):
            raise ProtocolError("counts by another weight than its answer's", where=site)
        # A message that every peer would refuse is refused here: only its sender drops out.
        keys.read_public(said.mask_key)
        keys.read_public(said.share_key)
        self._said[site] = said

    def advertisements(self) -> Advertisements:
        """Return the second wave's message, dropping sites whose roster differs from most."""
        rosters = Counter(said.roster for said in self._said.values()).most_common(1)
        for site, said in list(self._said.items()):
            if said.roster != rosters[0][0]:
                self.blamed[site] = "has another roster than most"
                del self._said[site]
        self._require(self._said, "joined")
        return Advertisements(terms=self.terms, sites=[s for _, s in sorted(self._said.items())])

    def take_packets(self, site: str, sent: Packets) -> None:
        """Take a site's sealed shares."""
        if set(sent.packets) != set(self._said) - {site} or site in self._packets:
            raise ProtocolError("shares are not for the sites of this round", where=site)
        self._packets[site] = sent.packets

    def packets_for(self, site: str) -> Packets:
        """Return the third wave's message to a site: all senders' shares for it."""
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
        """Return the fourth wave's message to the sites whose updates are in the sum."""
        self._require(self._survivors, "sent an update")
        gone = set(self._packets) - set(self._survivors)
        return Roll(survivors=sorted(self._survivors), dropped=sorted(gone))

    def take_consent(self, site: str, sent: Consent) -> None:
        """Take a survivor's signature, which the others check."""
        if site not in self._survivors or site in self._consents:
            raise ProtocolError("is not the consent of a site of this round", where=site)
        self._consents[site] = sent

    def consents(self) -> Consents:
        """Return the last wave's message to the sites that signed."""
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
            self._shares.setdefault(name, {})[site] = bytes.fromhex(share)

    def result(self) -> Arrays:
        """Remove the masks and return the weighted mean of the survivors' updates.

        Raises:
            QuorumError: too few shares, or too few right ones, or the mean is beyond what updates
            can add up to.
        """
        self._require(self._heard, "sent shares to unmask")
        for name in sorted(self._packets):
            if name in self._survivors:
                add_mask(self._total, self._secret(name, self._is_seed), -1)
            else:
                self._take_off_pairs(name, self._secret(name, self._is_key))
        scales = scales_of({site: said.weight for site, said in self._said.items()})
        summed = sum(scales[site] for site in self._survivors)
        limit, bits = self.terms.limit, self.terms.bits
        try:
            return mean(self._total, self.shapes, len(self._survivors), summed, limit, bits)
        except ProtocolError as error:
            raise QuorumError(f"{error.what}: a site sent no masked update") from None

    def _secret(self, name: str, fits: Callable[[str, bytes], bool]) -> bytes:
        found = recovered(
            self._shares[name],
            self.terms.threshold,
            lambda secret: fits(name, secret),
            self.blamed,
        )
        if found is None:
            what = (
                f"the shares of {name}'s secret do not fit it: {name} or too many others sent "
                "wrong ones"
            )
            self.blamed[name] = "the shares of its secret do not fit what it announced"
            raise QuorumError(what)
        secret, wrong = found
        # Liars who agree on their errors can make right shares look wrong; so both sides are named.
        right = ", ".join(sorted(self._shares[name].keys() - wrong))
        for site in wrong:
            self.blamed[site] = f"its share of {name}'s secret does not fit those of {right}"
        return secret

    def _is_seed(self, name: str, secret: bytes) -> bool:
        return hashlib.sha256(secret).hexdigest() == self._said[name].seed_digest

    def _is_key(self, name: str, secret: bytes) -> bool:
        try:
            return keys.public_hex(keys.from_scalar(secret)) == self._said[name].mask_key
        except ProtocolError:
            return False

    def _take_off_pairs(self, gone: str, secret: bytes) -> None:
        """Remove the masks that the survivors put on for a site which is gone."""
        key = keys.from_scalar(secret)
        for name, said in self._survivors.items():
            purpose = keys.mask_purpose(self.terms.context, gone, name)
            mask = keys.agreed(key, keys.read_public(said.mask_key), purpose)
            add_mask(self._total, mask, -1 if name < gone else 1)

    def _require(self, sites: Iterable[str], what: str) -> None:
        count = len(list(sites))
        if count < self.terms.threshold:
            raise QuorumError(f"{count} of at least {self.terms.threshold} sites {what}")
