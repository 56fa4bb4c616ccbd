"""Secure aggregation against parties that deviate: nobody reveals more than the sum."""

import json
from collections.abc import Collection
from pathlib import Path

import pytest

from client.errors import RefusedError
from client.site.config import PeersConfig
from mama.errors import ProtocolError
from mama.exchange.secagg.messages import (
    AGREED,
    Consent,
    Consents,
    Packets,
    Roll,
    Shares,
)
from mama.exchange.signing import new_key, sign
from tests.sim.secure_room import BASIS, NAMES, TERMS, Room, updates


def test_no_wave_comes_twice(tmp_path: Path) -> None:
    sent = updates()
    room = Room(tmp_path, sent)
    room.advertise()
    one = room.sites["alder"]
    with pytest.raises(ProtocolError, match="begun"):
        one.advertise(1.0, TERMS, BASIS)
    asked = room.sum.advertisements()
    room.share()
    with pytest.raises(ProtocolError, match="order"):
        one.share(asked)
    packets = room.sum.packets_for("alder")
    room.mask(["elm"])
    with pytest.raises(ProtocolError, match="order"):
        one.masked(packets, sent["alder"])
    with pytest.raises(ProtocolError, match="order"):
        one.unmask(Consents(consents={}))
    room.agree()
    with pytest.raises(ProtocolError, match="order"):
        one.agree(Roll(survivors=list(NAMES), dropped=[]))
    consents = room.sum.consents()
    one.unmask(consents)
    with pytest.raises(ProtocolError, match="order"):
        one.unmask(consents)
    one.forget()
    assert not one.folder.exists()


@pytest.mark.parametrize(
    ("survivors", "dropped"),
    [
        (NAMES, ["birch"]),  # both shares of one site
        (NAMES[:3], []),  # sites that are not named
        ((*NAMES, "yew"), []),
        (NAMES[1:], ["alder"]),  # without the site that is asked
        ((*NAMES, "birch"), []),
        (NAMES[:2], NAMES[2:]),  # too few
    ],
)
def test_a_site_answers_no_roll_that_would_bare_another(
    tmp_path: Path, survivors: Collection[str], dropped: Collection[str]
) -> None:
    room = Room(tmp_path, updates())
    room.advertise()
    room.share()
    room.mask()
    with pytest.raises((ProtocolError, RefusedError)):
        room.sites["alder"].agree(Roll(survivors=list(survivors), dropped=list(dropped)))


def test_a_site_checks_who_takes_part(tmp_path: Path) -> None:
    room = Room(tmp_path, updates())
    room.advertise()
    asked, one = room.sum.advertisements(), room.sites["alder"]
    mine = next(said for said in asked.sites if said.site == "alder")
    birch = next(said for said in asked.sites if said.site == "birch")
    stranger = birch.model_copy(update={"site": "yew"})
    swapped = birch.model_copy(update={"mask_key": mine.mask_key})
    late = birch.model_copy(update={"context": "run-1/2"})
    bad = [
        [said for said in asked.sites if said.site != "alder"],
        [mine, birch],
        [*asked.sites, birch],
        [*asked.sites, stranger],
        *[[other if said is birch else said for said in asked.sites] for other in (swapped, late)],
    ]
    for sites in bad:
        with pytest.raises((ProtocolError, RefusedError)):
            one.share(asked.model_copy(update={"sites": sites}))
    with pytest.raises(ProtocolError, match="terms"):
        one.share(asked.model_copy(update={"terms": TERMS.model_copy(update={"threshold": 2})}))
    one.share(asked)


def test_a_site_keeps_to_its_own_limits(tmp_path: Path) -> None:
    sent = updates()
    strict = PeersConfig(minimum_sites=5, largest_limit=0.5, least_bits=20)
    coarse = TERMS.model_copy(update={"bits": 12})
    with pytest.raises(RefusedError, match="coarser"):
        Room(tmp_path / "1", sent, coarse, strict).advertise()
    few = Room(tmp_path / "2", sent, limits=strict)
    few.advertise(["elm"])
    with pytest.raises(RefusedError, match="too few"):
        few.share()
    low = Room(tmp_path / "3", sent, TERMS.model_copy(update={"threshold": 2}))
    low.advertise()
    with pytest.raises(RefusedError, match="half of the sites"):
        low.share()
    wide = Room(tmp_path / "4", sent, TERMS.model_copy(update={"bits": 30}))
    wide.advertise()
    with pytest.raises(ProtocolError, match="overflow"):
        wide.share()


def test_a_share_for_another_does_not_open(tmp_path: Path) -> None:
    room = Room(tmp_path, updates())
    room.advertise()
    room.share()
    packets = dict(room.sum.packets_for("alder").packets)
    packets["birch"], packets["cedar"] = packets["cedar"], packets["birch"]
    with pytest.raises(ProtocolError, match="decrypted"):
        room.sites["alder"].masked(Packets(packets=packets), room.sent["alder"])


def test_secrets_are_for_the_owner_alone(tmp_path: Path) -> None:
    room = Room(tmp_path, updates())
    room.advertise()
    path = tmp_path / "alder" / "secrets.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text())["stage"] == "advertised"


def test_the_coordinator_refuses_what_does_not_fit(tmp_path: Path) -> None:
    room = Room(tmp_path, updates())
    room.advertise()
    room.share()
    words = bytes(4 * room.sum.size)
    for site, vector in (("alder", words[:-4]), ("yew", words)):
        with pytest.raises(ProtocolError):
            room.sum.fold(site, vector)
    room.mask()
    with pytest.raises(ProtocolError):
        room.sum.fold("alder", words)
    with pytest.raises(ProtocolError):
        room.sum.take_shares("alder", Shares(shares={"birch": "00"}))


def test_a_weight_is_that_of_the_answer(tmp_path: Path) -> None:
    room = Room(tmp_path, updates())
    said = room.sites["alder"].advertise(1e9, TERMS, BASIS)
    with pytest.raises(ProtocolError, match="weight"):
        room.sum.join("alder", said)


GROVE = ("target", *"abcd", *"wxyz")


def lied_to(room: Room) -> tuple[dict[str, Roll], dict[str, Consent]]:
    """Lies of a coordinator that wants the target's update alone.

    The target masks for a, b, c and d only; every other site learns that as many of those four as
    needed have dropped out.
    """
    room.advertise()
    room.share()
    for site in GROVE:
        packets = room.sum.packets_for(site).packets
        peers = "abcd" if site == "target" else packets
        chosen = Packets(packets={peer: packets[peer] for peer in peers})
        room.sites[site].masked(chosen, room.sent[site])
    rolls = {"target": Roll(survivors=["target", *"abcd"], dropped=[])}
    for site in GROVE[1:]:
        dropped = [peer for peer in "abcd" if peer != site]
        rolls[site] = Roll(survivors=[s for s in GROVE if s not in dropped], dropped=dropped)
    return rolls, {site: room.sites[site].agree(roll) for site, roll in rolls.items()}


def test_sites_that_get_different_survivors_give_nothing(tmp_path: Path) -> None:
    terms = TERMS.model_copy(update={"threshold": 5})
    room = Room(tmp_path, updates(GROVE), terms)
    rolls, consents = lied_to(room)
    # With what these rolls ask for, the coordinator would have five shares of the key of each site
    # that the target masked for, and five of the target's seed: all that its update wears.
    for site in "abcd":
        assert sum(site in roll.dropped for roll in rolls.values()) >= terms.threshold
    assert sum("target" in roll.survivors for roll in rolls.values()) >= terms.threshold
    for site in GROVE:
        with pytest.raises(ProtocolError, match="same peers and survivors"):
            room.sites[site].unmask(Consents(consents=consents))


@pytest.mark.parametrize("forged", ["another's", "of another round", "a stranger's", "noise"])
def test_consents_are_checked(tmp_path: Path, forged: str) -> None:
    room = Room(tmp_path, updates())
    room.advertise()
    room.share()
    room.mask()
    room.agree()
    true = dict(room.sum.consents().consents)
    cohort = room.sum.advertisements().digest()
    other = room.sum.roll().signed_part("run-1/2", cohort)
    signature = {
        "another's": true["birch"].signature,
        "of another round": sign(room.sites["cedar"].identity, AGREED, other).hex(),
        "a stranger's": sign(
            new_key(), AGREED, room.sum.roll().signed_part(TERMS.context, cohort)
        ).hex(),
        "noise": "00ff",
    }[forged]
    two = {site: true[site] for site in ("alder", "birch")}
    three = two | {"cedar": Consent(signature=signature)}
    with pytest.raises(ProtocolError, match="same peers and survivors"):
        room.sites["alder"].unmask(Consents(consents=three))
    with pytest.raises(ProtocolError, match="same peers and survivors"):
        room.sites["alder"].unmask(Consents(consents=two | {"yew": true["elm"]}))
    # A bad one beside enough good ones does no harm.
    room.sites["alder"].unmask(Consents(consents=true | {"elm": Consent(signature=signature)}))


def test_a_wave_that_was_left_out_is_not_made_up_for(tmp_path: Path) -> None:
    room = Room(tmp_path, updates())
    with pytest.raises(ProtocolError, match="not begun"):
        room.sites["alder"].masked(Packets(packets={}), room.sent["alder"])
    room.advertise()
    with pytest.raises(ProtocolError, match="order"):
        room.sites["alder"].masked(Packets(packets={}), room.sent["alder"])
    room.share(["alder"])
    with pytest.raises(ProtocolError, match="update of this round"):
        room.sum.fold("alder", bytes(4 * room.sum.size))
    room.mask(["birch"])
    with pytest.raises(ProtocolError, match="consent"):
        room.sum.take_consent("birch", Consent(signature="00"))
    room.agree(["cedar"])
    with pytest.raises(ProtocolError):
        room.sum.take_shares("cedar", Shares(shares=dict.fromkeys(NAMES, "00")))
