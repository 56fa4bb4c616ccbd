"""Waves of secure aggregation at the coordinator, independent of the transport."""

import secrets
from collections.abc import Callable, Iterator, Mapping

from mama.config.base import Section
from mama.config.privacy import SecureConfig
from mama.errors import PrivacyError, ProtocolError
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.block import Shape
from mama.exchange.protocol import Kind
from mama.exchange.secagg.messages import (
    Advertisement,
    Basis,
    Consent,
    Packets,
    Shares,
    Terms,
    read_message,
)
from mama.exchange.secagg.quantise import largest_bits
from server.secagg.secure_sum import SecureSum

# Sends each site its payload, and yields the payloads of the answers.
Ask = Callable[[Kind, dict[str, bytes]], Iterator[tuple[str, bytes]]]
Complain = Callable[[str, str], None]


def require_maskable(config: SecureConfig, sites: int) -> None:
    """Refuse terms that `sites` sites cannot mask by, before training: each would refuse later.

    Raises:
        PrivacyError: half of them could unmask the others, or their sum would overflow.
    """
    if 2 * config.threshold <= sites:
        raise PrivacyError(
            f"{config.threshold} is not above half of {sites} sites, which could unmask the others",
            where="privacy.secure.threshold",
            fix="Plan a higher one, and give a new --out",
        )
    if config.bits > largest_bits(sites):
        raise PrivacyError(
            f"the sum of {sites} sites' values of {config.bits} bits would overflow",
            where="privacy.secure.bits",
            fix=f"Plan {largest_bits(sites)} at most, and give a new --out",
        )


def secure_mean(
    config: SecureConfig,
    basis: Basis,
    shapes: Mapping[str, Shape],
    weights: Mapping[str, float],
    ask: Ask,
    complain: Complain,
) -> tuple[Arrays, list[str]]:
    """Return the weighted mean of a round's updates, and the sites in it.

    Args:
        config: of secure aggregation.
        basis: experiment, model, run and round of all updates.
        shapes: of the tensors of an update.
        weights: by site that holds an update, from its metrics: a site may not report another
            weight to its peers.
        ask: send a wave's messages and yield the answers.
        complain: called with each site whose answer does not count, and the reason.

    Raises:
        QuorumError: too few sites were left; nothing of the round is known.
    """
    # The last part is new each time, so that keys and shares of an attempt that failed fit no
    # other.
    context = f"{basis.run}/{basis.round}/{secrets.token_hex(8)}"
    terms = Terms(context=context, threshold=config.threshold, bits=config.bits, limit=config.limit)
    total = SecureSum(terms, basis, shapes, weights)

    def wave(kind: Kind, asked: Mapping[str, Section], take: Callable[[str, bytes], None]) -> None:
        for site, payload in ask(kind, {s: m.model_dump_json().encode() for s, m in asked.items()}):
            try:
                take(site, payload)
            except ProtocolError as error:
                complain(site, f"secure aggregation, {kind}: {error}")

    wave(
        "advertise",
        dict.fromkeys(weights, terms),
        lambda s, p: total.join(s, read_message(Advertisement, p)),
    )
    everyone = total.advertisements()
    wave(
        "share",
        {said.site: everyone for said in everyone.sites},
        lambda s, p: total.take_packets(s, read_message(Packets, p)),
    )
    wave("mask", {site: total.packets_for(site) for site in total.sharing}, total.fold)
    roll = total.roll()
    wave(
        "agree",
        dict.fromkeys(roll.survivors, roll),
        lambda s, p: total.take_consent(s, read_message(Consent, p)),
    )
    consents = total.consents()
    wave(
        "unmask",
        dict.fromkeys(consents.consents, consents),
        lambda s, p: total.take_shares(s, read_message(Shares, p)),
    )
    try:
        return total.result(), roll.survivors
    finally:
        for site, problem in total.blamed.items():
            complain(site, f"secure aggregation: {problem}")
