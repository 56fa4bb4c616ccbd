"""Site-level privacy in the round loop.

A site moves the mean by its clipped update at most, and every noised mean that may have been seen
is paid for.
"""

import math
import shutil
from typing import Any

import numpy as np
import pytest

from mama.config.privacy import PrivacyConfig
from mama.errors import PrivacyError
from mama.exchange.codecs.coding import encode
from server.aggregation.private_mean import site_noise
from tests.server.faults import SHAPES, Fault, World, initial, only, update

# So little noise that means can be distinguished.
PRIVACY = {"mode": "site", "epsilon": 1000, "delta": 0.1, "max_grad_norm": 1e-3}


def clipped(site: str, number: int = 1) -> np.ndarray:
    flat = np.concatenate([update(site, number)[name].ravel() for name in sorted(SHAPES)])
    return flat * min(1.0, 1e-3 / np.linalg.norm(flat))


def moved(world: World) -> np.ndarray:
    before, after = initial(), world.model
    return np.concatenate([(after[n] - before[n]).ravel() for n in sorted(SHAPES)])


def one_round(make_world: Any, fault: Fault | None = None) -> World:
    plan = {"plan": only("birch", 1, fault)} if fault else {}
    return make_world(**plan, privacy=PRIVACY, rounds=1, weights="uniform").run()


def poisoned(value: float) -> Fault:
    bad = {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}
    return Fault(change=lambda header, _: (header, encode(bad)))


def infinite(header: str, data: bytes) -> tuple[str, bytes]:
    block = bytearray(data)
    block[-4:] = np.float32(math.inf).tobytes()
    return header, bytes(block)


@pytest.mark.parametrize(
    ("fault", "theirs"),
    [
        (None, clipped("birch")),
        (Fault(error=13), np.zeros(17)),
        (Fault(change=infinite), np.zeros(17)),
        (poisoned(0.0), np.zeros(17)),
        (poisoned(1e5), np.full(17, 1e-3 / math.sqrt(17))),
    ],
)
def test_the_mean_is_of_clipped_updates_over_all_sites(
    make_world: Any, fault: Fault | None, theirs: np.ndarray
) -> None:
    world = one_round(make_world, fault)
    # Three sites whoever answers; and an update ever so long decides about none but itself.
    expected = (clipped("alder") + clipped("cedar") + theirs) / 3
    sigma = 1e-3 * site_noise(PrivacyConfig.model_validate(PRIVACY), 1) / 3
    assert np.abs(moved(world) - expected).max() < 6 * sigma < np.abs(clipped("alder")).max() / 9
    assert world.logged("round")[0]["asked"] == ["alder", "birch", "cedar"]


def test_a_delta_that_would_let_a_whole_site_out_stops_the_run(make_world: Any) -> None:
    names = tuple(f"site-{number}" for number in range(10))
    world = make_world(sites=names, privacy=PRIVACY, rounds=1, weights="uniform")
    with pytest.raises(PrivacyError, match=r"delta 0\.1 is not below 1 / 10 sites"):
        world.run()
    assert world.logged("stopped")
    assert not world.logged("round")


def test_a_run_pays_for_each_mean_and_ends_when_all_is_paid(make_world: Any) -> None:
    world = make_world(privacy=PRIVACY | {"epsilon": 5.0}, rounds=4, weights="uniform")

    def crash(event: dict) -> None:
        if event["event"] == "asked" and event["round"] == 4 and len(world.logged("start")) == 1:
            raise KeyboardInterrupt

    world.hooks.append(crash)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    # The sites have seen the model of round 3, which is then lost.
    shutil.rmtree(world.folder.path / "checkpoints" / "round-0003")
    world.run()
    assert [event["round"] for event in world.logged("round")] == [1, 2, 3, 3]
    metrics = world.metrics()
    assert (metrics["status"], metrics["rounds"]) == ("finished", 3)
    assert (metrics["privacy"]["rounds"], world.problems[-1][0]) == (4, 4)
    assert 4.98 <= metrics["privacy"]["maximum"] <= 5
    assert metrics["problems"][-1]["code"] == "budget_exhausted"


def test_a_crash_in_a_round_costs_nothing(make_world: Any) -> None:
    world = make_world(privacy=PRIVACY | {"epsilon": 5.0}, rounds=3, weights="uniform")

    def crash(event: dict) -> None:
        if event["event"] == "update" and event["round"] == 2 and len(world.logged("start")) == 1:
            raise KeyboardInterrupt

    world.hooks.append(crash)
    with pytest.raises(KeyboardInterrupt):
        world.run()
    world.run()
    assert [event["round"] for event in world.logged("round")] == [1, 2, 3]
    assert world.metrics()["privacy"]["maximum"] <= 5
