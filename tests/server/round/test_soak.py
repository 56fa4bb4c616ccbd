"""Two hundred rounds of random faults: the accepted updates' model, and flat memory."""

from collections import defaultdict

import numpy as np
import pytest
from flwr.common.constant import ErrorCode

from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import decode, encode
from mama.system.seeds import numpy_generator
from server.run.folder import RunFolder
from tests.server.faults import (
    BASE,
    STUDIES,
    FakeSites,
    Fault,
    FaultyGrid,
    World,
    assert_same,
    freeze_time,
    replayed,
    small_experiment,
)

SHAPES = {"weight": (256, 256), "bias": (256,)}  # a quarter of a megabyte
ROUNDS = 200


def resident() -> int:
    """Bytes of memory of this process."""
    with open("/proc/self/statm") as handle:
        return int(handle.read().split()[1]) * 4096


def poisoned(header: str, data: bytes) -> tuple[str, bytes]:
    return header, encode(
        {name: array * np.float32(np.nan) for name, array in decode(data).items()}
    )


def stretched(header: str, data: bytes) -> tuple[str, bytes]:
    return header, encode({name: array * np.float32(1e5) for name, array in decode(data).items()})


FAULTS = [
    Fault(lost=True),
    Fault(delay=30),
    Fault(delay=75),  # late
    Fault(copies=2),
    Fault(error=ErrorCode.CLIENT_APP_RAISED_EXCEPTION),
    Fault(error=ErrorCode.CLIENT_APP_CRASHED),
    Fault(error=ErrorCode.MESSAGE_UNAVAILABLE),
    Fault(change=poisoned),
    Fault(change=stretched),
    Fault(change=lambda header, data: (header, data[:-3])),
    Fault(change=lambda header, data: ("{", data)),
]


def plan(site: str, kind: str, number: int, attempt: int) -> Fault:
    random = numpy_generator(7, site, kind, number, attempt)
    if kind == "describe" or random.random() > 0.3:
        return Fault()
    return FAULTS[random.integers(len(FAULTS))]


@pytest.mark.parametrize("late", ["drop", "next_round"])
def test_two_hundred_rounds_of_faults(tmp_path, monkeypatch, late: str) -> None:
    experiment = small_experiment(
        rounds=ROUNDS, late=late, weights="studies", pause_after=4, evaluate_every=50
    )
    arrays: Arrays = {name: np.zeros(shape, np.float32) for name, shape in SHAPES.items()}
    folder = RunFolder.create(tmp_path / "run", experiment, arrays, BASE)
    clock, app = freeze_time(monkeypatch), FakeSites(SHAPES)
    world = World(folder, FaultyGrid(app, tuple(STUDIES), clock, plan), app, clock)
    memory: list[int] = []
    random = np.random.default_rng(3)

    def drama(event: dict) -> None:
        if event["event"] != "round":
            return
        memory.append(resident())
        # Sites come and go, under old and new nodes.
        present = list(world.grid.here)
        if len(present) > 2 and random.random() < 0.1:
            del world.grid.here[present[random.integers(len(present))]]
        for site in set(STUDIES) - set(world.grid.here.values()):
            if random.random() < 0.3:
                world.grid.connect(site, int(random.integers(1, 1000)))

    world.hooks.append(drama)
    world.run()

    rounds = world.logged("round")
    assert [event["round"] for event in rounds] == list(range(1, ROUNDS + 1))
    folded: list[dict[str, float]] = []
    for event in rounds:
        weights = {f"{s}/{event['round']}": float(STUDIES[s]) for s in event["sites"]}
        for site, number in event["late"].items():
            weights[f"{site}/{number}"] = STUDIES[site] * (event["round"] - number + 1) ** -0.5
        folded.append(weights)
    times = [key for weights in folded for key in weights]
    assert len(times) == len(set(times)), "an update was folded twice"
    assert_same(world.model, replayed(folded, SHAPES), 2e-5)

    seen = defaultdict(int)
    for event in world.events:
        seen[event["event"]] += 1
    for kind in ("problem", "asked_again", "answered_again", "answered_late", "joined", "paused"):
        assert seen[kind] > 0, kind
    assert any(event["late"] for event in rounds) == (late == "next_round")
    # Of the last hundred rounds: less than half an update a round, though some five came in each.
    # The test keeps all tasks and events, and the grid what nobody fetched.
    assert memory[-1] - memory[ROUNDS // 2] < 13e6
