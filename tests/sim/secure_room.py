"""Sites and a coordinator in one process, for secure aggregation: messages pass as JSON."""

from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from client.identity.peers import Peers
from client.secagg.participant import Participant
from client.site.config import PeersConfig
from mama.exchange.arrays import Arrays
from mama.exchange.protocol import WAVES
from mama.exchange.secagg.messages import (
    Advertisement,
    Basis,
    Consent,
    Packets,
    Shares,
    Terms,
)
from mama.exchange.signing import new_key
from server.secagg.secure_sum import SecureSum

SHAPES = {"a": (40, 25), "b": (7,)}
NAMES = ("alder", "birch", "cedar", "dogwood", "elm")
TERMS = Terms(context="run-1/1", threshold=3, bits=20, limit=0.5)
BASIS = Basis(experiment="e" * 64, model="f" * 64, run="run-1", round=1)
OWN = PeersConfig()
Updates = dict[str, dict[str, np.ndarray]]


def updates(names: Collection[str] = NAMES) -> Updates:
    random = np.random.default_rng(0)
    return {
        site: {n: (0.1 * random.standard_normal(s)).astype(np.float32) for n, s in SHAPES.items()}
        for site in names
    }


class Room:
    """Sites and a coordinator in one process; every message goes through its JSON."""

    def __init__(
        self,
        folder: Path,
        sent: Updates,
        terms: Terms = TERMS,
        limits: PeersConfig | None = None,
        weights: dict[str, float] | None = None,
    ):
        self.sent, self.terms = sent, terms
        self.weights = dict.fromkeys(sent, 1.0) | (weights or {})
        identities = {site: new_key() for site in sent}
        self.sites = {
            site: Participant(
                folder / site,
                site,
                Peers(
                    identity,
                    {s: i.public_key() for s, i in identities.items() if s != site},
                    limits or OWN,
                ),
            )
            for site, identity in identities.items()
        }
        shapes = {n: a.shape for n, a in next(iter(sent.values())).items()}
        self.sum = SecureSum(terms, BASIS, shapes, self.weights)
        self.vectors: dict[str, bytes] = {}

    def advertise(self, away: Collection[str] = ()) -> None:
        for site, one in self.sites.items():
            if site not in away:
                said = one.advertise(self.weights[site], self.terms, BASIS)
                self.sum.join(site, Advertisement.model_validate_json(said.model_dump_json()))

    def share(self, away: Collection[str] = ()) -> None:
        asked = self.sum.advertisements()
        for said in asked.sites:
            if said.site not in away:
                text = self.sites[said.site].share(asked).model_dump_json()
                self.sum.take_packets(said.site, Packets.model_validate_json(text))

    def mask(self, away: Collection[str] = ()) -> None:
        for site in self.sum.sharing:
            vector = self.sites[site].masked(self.sum.packets_for(site), self.sent[site])
            if site not in away:
                self.vectors[site] = vector
                self.sum.fold(site, vector)

    def agree(self, away: Collection[str] = ()) -> None:
        roll = self.sum.roll()
        for site in roll.survivors:
            if site not in away:
                text = self.sites[site].agree(roll).model_dump_json()
                self.sum.take_consent(site, Consent.model_validate_json(text))

    def unmask(self, away: Collection[str] = ()) -> dict[str, np.ndarray]:
        consents = self.sum.consents()
        for site in consents.consents:
            if site not in away:
                text = self.sites[site].unmask(consents).model_dump_json()
                self.sum.take_shares(site, Shares.model_validate_json(text))
        return self.sum.result()

    def run(self, away: Mapping[str, Collection[str]] = MappingProxyType({})) -> Arrays:
        """All waves; `away` are the sites that do not answer one, by its name."""
        for wave in WAVES[:-1]:
            getattr(self, wave)(away.get(wave, ()))
        return self.unmask(away.get("unmask", ()))
