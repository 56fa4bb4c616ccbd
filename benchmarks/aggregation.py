"""What does folding an update cost, and does memory grow with the number of sites?

    python benchmarks/aggregation.py [--updates 16] [--repeats 3] [--rule mean]

The same random fp32 updates, of the size of configs/mama_vitb.yaml's image tower (86.6M values), are combined twice:
here one at a time, its norm first, then `Combination.fold`, and at the end `result`; and by Flower's
`aggregate_arrayrecords`, which is given all of them at once in its own serialised form and computes no norm. CPU
seconds an update on one thread, of `repeats` interleaved turns the median. Ours are views of a block, as in the
server. Opening it (checksum, finite check), as what Flower does apart from its function, is given apart, and so is one
reading of an update from memory (a sum).

Memory is the peak of a process of its own above what it held before the first update; updates are made one at a time
and dropped after folding, except for Flower's, which must all be there. `--rule median` measures a rule that keeps
the updates on disk instead (1.4 GB for 4 sites, 22 GB for 64, in --scratch).
"""

import argparse
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from common import last_line
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from memory import growth, in_child

from mama.config_federation import FederationConfig
from mama.exchange.arrays import Arrays
from mama.exchange.coding import decode, encode
from mama.exchange.metrics import TrainingMetrics
from server.aggregation.combine import Combination
from server.aggregation.norm import update_norm
from server.lean import stay_lean

RECIPE = Path("configs/mama_vitb.yaml")
Shapes = dict[str, tuple[int, ...]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=16)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--rule", choices=("mean", "median"), default="mean")
    parser.add_argument("--scratch", type=Path, default=Path("runs/aggregation"))
    options = parser.parse_args()
    torch.set_num_threads(1)
    shapes = in_child(tower_shapes)
    size = 4 * sum(int(np.prod(shape)) for shape in shapes.values()) / 2**20
    print(f"{len(shapes)} tensors, {size:.0f} MiB an update")
    result: dict[str, float] = {"update_mib": size}
    rule = partial(peak_of_fold, shapes, options.rule, options.scratch)
    few, many = in_child(rule, 4), in_child(rule, 64)
    result |= {"rss_4_mib": few, "rss_64_mib": many, "rss_64_over_4": many / few}
    print(f"{options.rule}: peak {few:.0f} MiB with 4 sites, {many:.0f} with 64")
    if options.rule == "mean":
        flower = partial(peak_of_flower, shapes)
        few, many = in_child(flower, 4), in_child(flower, options.updates)
        result |= {"rss_flower_4_mib": few, "rss_flower_mib": many}
        turns = [
            in_child(fold_seconds, shapes, options.updates)
            | {"flower_s": in_child(flower_seconds, shapes, options.updates)}
            for _ in range(options.repeats)
        ]
        result |= {key: statistics.median(turn[key] for turn in turns) for key in turns[0]}
        ours = result["norm_s"] + result["fold_s"]
        result |= {
            "speedup": result["flower_s"] / ours,
            "speedup_with_opening": result["flower_s"] / (ours + result["open_s"]),
            "fold_and_norm_over_read": ours / result["read_s"],
        }
    for key, value in result.items():
        print(f"  {key:<24} {value:.3f}")
    last_line(result)


def tower_shapes() -> Shapes:
    """The shapes of the recipe's image tower, trained whole. In a child, so that no other holds timm."""
    from mama.config import Experiment
    from mama.configfile import load
    from mama.exchange.tensors import trained_shapes
    from mama.towers.image import ImageTower

    config = load(Experiment, RECIPE, ["image.pretrained=false"])
    with torch.device("meta"):
        return trained_shapes(ImageTower(config.image))


def update_of(shapes: Shapes, site: int) -> Arrays:
    """The same random update each time."""
    random = np.random.default_rng(site)
    return {
        name: random.standard_normal(shape, np.float32) * np.float32(1e-3)
        for name, shape in shapes.items()
    }


def metrics(number: int) -> TrainingMetrics:
    return TrainingMetrics(
        studies=100 + number, patients=100, steps=20, skipped=0, seconds=1, terms={"loss": 1.0}
    )


def combination(shapes: Shapes, rule: str, scratch: Path, sites: int) -> Combination:
    config: dict[str, Any] = {"aggregator": {"kind": rule}, "local_steps": 20}
    if rule != "mean":
        config |= {"weights": "uniform", "quorum": 3}
    return Combination(FederationConfig.model_validate(config), shapes, scratch, sites)


def peak_of_fold(shapes: Shapes, rule: str, scratch: Path, sites: int) -> float:
    """MiB of a round of so many sites."""
    torch.set_num_threads(1)

    def work() -> None:
        folded = combination(shapes, rule, scratch / rule, sites)
        for site in range(sites):
            update = update_of(shapes, site)
            update_norm(update)
            folded.fold(f"site-{site}", update, metrics(site))
            del update
        folded.result()
        folded.close()

    try:
        return growth(work)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def peak_of_flower(shapes: Shapes, sites: int) -> float:
    """MiB of the same by Flower's function."""
    return growth(lambda: flower_round(shapes, sites))


def fold_seconds(shapes: Shapes, number: int) -> dict[str, float]:
    """CPU seconds an update of each part."""
    torch.set_num_threads(1)
    stay_lean()
    folded = combination(shapes, "mean", Path(), number)
    spent = dict.fromkeys(("norm_s", "fold_s", "open_s", "read_s"), 0.0)

    def timed(key: str, work: Callable[[], object]) -> None:
        begin = time.process_time()
        work()
        spent[key] += (time.process_time() - begin) / number

    for site in range(number):
        block = received(encode(update_of(shapes, site)))
        timed("open_s", partial(decode, block, shapes))
        update = decode(block, shapes)
        timed("read_s", lambda update=update: [array.sum() for array in update.values()])
        timed("norm_s", partial(update_norm, update))
        timed("fold_s", partial(folded.fold, f"site-{site}", update, metrics(site)))
    timed("fold_s", folded.result)
    return spent


def received(block: bytes) -> bytes:
    """The block in memory as the server has it: put together of a message's pieces."""
    array = Array("uint8", (len(block),), "safetensors", block)
    contents = {name: one.deflate() for name, one in get_all_nested_objects(array).items()}
    return cast(Array, inflate_object_from_contents(array.object_id, contents)).data


def flower_seconds(shapes: Shapes, number: int) -> float:
    """CPU seconds an update of Flower's function."""
    return flower_round(shapes, number) / number


def flower_round(shapes: Shapes, number: int) -> float:
    """CPU seconds of Flower's function over so many sites."""
    records = [flower_record(shapes, site) for site in range(number)]
    begin = time.process_time()
    aggregate_arrayrecords(records, "num-examples")
    return time.process_time() - begin


def flower_record(shapes: Shapes, site: int) -> RecordDict:
    arrays = {name: Array(array) for name, array in update_of(shapes, site).items()}
    weight = MetricRecord({"num-examples": metrics(site).studies})
    return RecordDict({"arrays": ArrayRecord(arrays), "metrics": weight})


if __name__ == "__main__":
    main()
