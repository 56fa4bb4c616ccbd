"""Secure aggregation, both ends: the mean is right despite dropouts; single updates are hidden."""

import hashlib
import tracemalloc
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from flwr.common.secure_aggregation.crypto.shamir import combine_shares
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mama.errors import ProtocolError, QuorumError
from mama.exchange.protocol import WAVES
from mama.exchange.secagg.messages import (
    Shares,
)
from mama.exchange.secagg.quantise import quantise, step
from tests.sim.secure_room import NAMES, SHAPES, TERMS, Room, Updates, updates


def wrong_by(result: dict[str, np.ndarray], sent: Updates, names: Collection[str]) -> float:
    return max(
        float(np.abs(result[n] - np.mean([sent[site][n] for site in names], axis=0)).max())
        for n in SHAPES
    )


@pytest.mark.parametrize("wave", ["none", *WAVES])
@pytest.mark.parametrize("gone", [("birch",), ("alder", "elm")])
def test_the_mean_with_sites_lost_in_each_wave(
    tmp_path: Path, wave: str, gone: tuple[str, ...]
) -> None:
    sent = updates()
    result = Room(tmp_path, sent).run({wave: gone})
    left = [site for site in NAMES if site not in gone]
    summed = left if wave in ("advertise", "share", "mask") else NAMES
    assert wrong_by(result, sent, summed) <= step(TERMS.limit, TERMS.bits) * 1.001


def test_weights_count(tmp_path: Path) -> None:
    sent, weights = updates(), {"alder": 10.0, "birch": 4.0}
    result = Room(tmp_path, sent, weights=weights).run({"mask": ["cedar"]})
    # Alder's ten count as four medians.
    left = {site: min(weights.get(site, 1.0), 4.0) for site in NAMES if site != "cedar"}
    expected = sum(w * sent[site]["a"] for site, w in left.items()) / sum(left.values())
    # A sum of rounding errors of a step each, over the weights relative to the heaviest.
    bound = len(left) * step(TERMS.limit, TERMS.bits) / (sum(left.values()) / 4)
    assert np.abs(result["a"] - expected).max() <= bound


def test_what_the_coordinator_sees_of_a_site_is_noise(tmp_path: Path) -> None:
    random = np.random.default_rng(1)
    sent = {
        site: {"a": (0.1 * random.standard_normal(200_000)).astype(np.float32)} for site in NAMES
    }
    room = Room(tmp_path, sent)
    room.advertise()
    room.share()
    room.mask()
    for site, vector in room.vectors.items():
        words = np.frombuffer(vector, "<u4")
        for shift in (0, 8, 16, 24):
            counts = np.bincount((words >> shift) & 255, minlength=256)
            assert stats.chisquare(counts).pvalue > 1e-6, site
        plain = quantise(sent[site], 1.0, TERMS.limit, TERMS.bits).astype(float)
        # Of n independent pairs the correlation is normal with deviation n^-1/2.
        assert abs(np.corrcoef(plain, words.astype(float))[0, 1]) < 5.5 / np.sqrt(200_000)
    total = sum(np.frombuffer(v, "<u4").astype(np.uint64) for v in room.vectors.values())
    # The pairs' masks cancel in the sum, the sites' own ones do not: it is noise too until
    # unmasked.
    counts = np.bincount(((total % 2**32) >> 24).astype(int), minlength=256)
    assert stats.chisquare(counts).pvalue > 1e-6


@settings(max_examples=25, deadline=None)
@given(lost=st.dictionaries(st.sampled_from(NAMES), st.sampled_from(WAVES)))
def test_whoever_is_lost_whenever_it_is_the_mean_or_no_round(lost: dict[str, str]) -> None:
    sent = updates()
    away = {wave: [site for site, when in lost.items() if when == wave] for wave in WAVES}
    with TemporaryDirectory() as folder:
        room = Room(Path(folder), sent)
        if len(NAMES) - len(lost) < TERMS.threshold:
            with pytest.raises((QuorumError, ProtocolError)):
                room.run(away)
            return
        result = room.run(away)
    summed = [site for site in NAMES if lost.get(site) not in ("advertise", "share", "mask")]
    assert wrong_by(result, sent, summed) <= step(TERMS.limit, TERMS.bits) * 1.001


@pytest.mark.parametrize("wave", WAVES)
def test_fewer_than_the_threshold_end_the_round(tmp_path: Path, wave: str) -> None:
    room = Room(tmp_path, updates())
    with pytest.raises(QuorumError, match="2 of at least 3 sites"):
        room.run({wave: ("alder", "birch", "cedar")})


@pytest.mark.parametrize("gone", [[], ["elm"]])
@pytest.mark.parametrize("liars", [("alder",), ("alder", "birch"), ("alder", "birch", "cedar")])
def test_wrong_shares_cost_their_senders_and_not_the_round(
    tmp_path: Path, gone: list[str], liars: tuple[str, ...]
) -> None:
    sent = updates()
    room = Room(tmp_path, sent)
    room.advertise()
    room.share()
    room.mask(gone)
    room.agree()
    shown = room.sum.consents()
    for site in shown.consents:
        shares = dict(room.sites[site].unmask(shown).shares)
        if site in liars:
            target = gone[0] if gone else "dogwood"
            share = bytearray.fromhex(shares[target])
            # Unlike errors: like ones cancel in some sets of shares.
            share[10:18] = np.random.default_rng(liars.index(site)).bytes(8)
            shares[target] = share.hex()
        room.sum.take_shares(site, Shares(shares=shares))
    left = [site for site in NAMES if site not in gone]
    if len(left) - len(liars) < TERMS.threshold:
        with pytest.raises(QuorumError, match="do not fit"):
            room.sum.result()
        return
    result = room.sum.result()
    assert wrong_by(result, sent, left) <= step(TERMS.limit, TERMS.bits) * 1.001
    assert set(room.sum.blamed) == set(liars)


@pytest.mark.parametrize("bounded", [True, False])
def test_words_that_are_no_masked_update_end_the_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bounded: bool
) -> None:
    room = Room(tmp_path, updates())
    room.advertise()
    room.share()
    room.mask(["birch"])
    words = np.random.default_rng(0).integers(0, 2**32, room.sum.size, np.uint32)
    room.sum.fold("birch", words.astype("<u4").tobytes())
    room.agree()
    if bounded:
        with pytest.raises(QuorumError, match="exceeds"):
            room.unmask()
        return
    monkeypatch.setattr("server.secagg.secure_sum.mean", unbounded)
    assert np.abs(room.unmask()["a"]).max() > 500 * TERMS.limit


def unbounded(total: np.ndarray, shapes: Any, sites: int, scales: float, limit: float, bits: int):
    """The mean without a look at the sum."""
    return {"a": (total * step(limit, bits) - sites * limit) / scales}


def test_a_huge_weight_does_not_drown_the_others(tmp_path: Path) -> None:
    sent = updates()
    result = Room(tmp_path, sent, weights={"elm": 1e9}).run()
    expected = (sum(sent[site]["a"] for site in NAMES[:4]) + 4 * sent["elm"]["a"]) / 8
    bound = len(NAMES) * step(TERMS.limit, TERMS.bits) / (8 / 4)
    assert np.abs(result["a"] - expected).max() <= bound


def test_fewer_shares_than_the_threshold_tell_nothing_of_a_secret(tmp_path: Path) -> None:
    """With two of three shares, each value of the third gives another secret, all as likely."""
    room = Room(tmp_path, updates())
    room.advertise()
    room.share()
    room.mask()
    room.agree()
    consents = room.sum.consents()
    shares = [bytes.fromhex(room.sites[s].unmask(consents).shares["birch"]) for s in NAMES[:3]]
    assert hashlib.sha256(combine_shares(shares)).hexdigest() == room.sum._said["birch"].seed_digest
    found = set()
    for value in range(256):
        third = bytearray(shares[2])
        third[4] ^= value
        found.add(combine_shares([*shares[:2], bytes(third)])[:16])
    assert len(found) == 256


def test_memory_of_the_coordinator_does_not_grow_with_the_sites(tmp_path: Path) -> None:
    size = 2_000_000
    names = [f"site{n}" for n in range(12)]
    terms = TERMS.model_copy(update={"threshold": 7})
    room = Room(tmp_path, {name: {"a": np.zeros(size, np.float32)} for name in names}, terms)
    room.advertise()
    room.share()
    tracemalloc.start()
    for site in room.sum.sharing:
        room.sum.fold(site, room.sites[site].masked(room.sum.packets_for(site), room.sent[site]))
        if site == "site0":
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
    # One vector at a time comes in, beside the sum: in the test's own process it is made here too,
    # in two copies.
    peak = tracemalloc.get_traced_memory()[1] - before
    room.agree()
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    room.unmask()
    revealed = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert peak < 4 * 4 * size
    # The mean, and a few pieces in double precision.
    assert revealed < 2 * 4 * size
