"""Changed messages of secure aggregation, thousands of each kind, to site and coordinator.

Each is refused by an error of one line; a changed share never changes the sum.
"""

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mama.exchange.secagg.messages import (
    Advertisement,
    Advertisements,
    Consent,
    Consents,
    Packets,
    Roll,
    Shares,
    Terms,
    read_message,
)
from tests.attacks.mutations import COUNT, changed_texts, survived
from tests.sim.secure_room import BASIS, NAMES, TERMS, Room, updates

pytestmark = pytest.mark.slow


def room_before(wave: str, folder: Path) -> Room:
    """Three sites and a coordinator with all waves before this one behind them."""
    room = Room(folder, updates(NAMES[:3]))
    for name in ("advertise", "share", "mask", "agree"):
        if name == wave:
            break
        getattr(room, name)()
    return room


TO_SITES: dict[str, tuple[type, Callable[[Room], Any], Callable[[Room, Any], object]]] = {
    "advertise": (Terms, lambda r: TERMS, lambda r, m: r.sites["alder"].advertise(1.0, m, BASIS)),
    "share": (
        Advertisements,
        lambda r: r.sum.advertisements(),
        lambda r, m: r.sites["alder"].share(m),
    ),
    "mask": (
        Packets,
        lambda r: r.sum.packets_for("alder"),
        lambda r, m: r.sites["alder"].masked(m, r.sent["alder"]),
    ),
    "agree": (Roll, lambda r: r.sum.roll(), lambda r, m: r.sites["alder"].agree(m)),
    "unmask": (Consents, lambda r: r.sum.consents(), lambda r, m: r.sites["alder"].unmask(m)),
}


@pytest.mark.parametrize("wave", TO_SITES)
def test_waves_at_a_site(wave: str, tmp_path: Path) -> None:
    room = room_before(wave, tmp_path)
    kind, make, take = TO_SITES[wave]
    whole = make(room).model_dump_json()
    secrets = tmp_path / "alder" / "secrets.json"
    before = secrets.read_bytes() if secrets.exists() else None

    def read(text: str) -> None:
        if before is None:
            secrets.unlink(missing_ok=True)
        else:
            secrets.write_bytes(before)
        take(room, read_message(kind, text.encode(errors="replace")))

    read(whole)
    survived(read, changed_texts(whole, COUNT, 6))


TO_COORDINATOR: dict[str, tuple[type, Callable[[Room], Any], Callable[[Any, Any], object]]] = {
    "advertise": (
        Advertisement,
        lambda r: r.sites["alder"].advertise(1.0, TERMS, BASIS),
        lambda s, m: s.join("alder", m),
    ),
    "share": (
        Packets,
        lambda r: r.sites["alder"].share(r.sum.advertisements()),
        lambda s, m: s.take_packets("alder", m),
    ),
    "agree": (
        Consent,
        lambda r: r.sites["alder"].agree(r.sum.roll()),
        lambda s, m: s.take_consent("alder", m),
    ),
}


@pytest.mark.parametrize("wave", TO_COORDINATOR)
def test_waves_at_the_coordinator(wave: str, tmp_path: Path) -> None:
    room = room_before(wave, tmp_path)
    kind, make, take = TO_COORDINATOR[wave]
    whole = make(room).model_dump_json()

    def read(text: str) -> None:
        take(deepcopy(room.sum), read_message(kind, text.encode(errors="replace")))

    read(whole)
    survived(read, changed_texts(whole, COUNT, 7))


def test_shares_at_the_coordinator(tmp_path: Path) -> None:
    """A wrong share costs its sender or the round, never the mean."""
    room = room_before("unmask", tmp_path)
    consents = room.sum.consents()
    said = {site: one.unmask(consents) for site, one in room.sites.items()}
    whole = said.pop("alder").model_dump_json()
    for site, shares in said.items():
        room.sum.take_shares(site, shares)
    mean = {name: sum(sent[name] for sent in room.sent.values()) / 3 for name in ("a", "b")}

    def read(text: str) -> None:
        total = deepcopy(room.sum)
        total.take_shares("alder", read_message(Shares, text.encode(errors="replace")))
        for name, array in total.result().items():
            assert np.abs(array - mean[name]).max() < 1e-5

    read(whole)
    survived(read, changed_texts(whole, COUNT, 8))
