"""Cost of folding an update, and memory as a function of the number of sites.

    python -m benchmarks.federation.aggregation [--updates 16] [--repeats 3] [--rule mean]

The same random fp32 updates, of the size of configs/mama_vitb.yaml's image tower (86.6M values),
are combined twice: by this project one at a time (norm, `Combination.fold`, and `result` at the
end), and by Flower's `aggregate_arrayrecords`, which receives all of them at once in its own
serialised form and computes no norm. Times are CPU seconds per update on one thread, the median of
`repeats` interleaved turns. Our updates are views of a block, as in the server. The time to open a
block (checksum, finite check), which Flower does outside its function, is reported separately, as
is the time to read an update from memory once (a sum).

Memory is the peak of a separate process above its size before the first update; updates are created
one at a time and dropped after folding, except for Flower, which needs all of them. `--rule median`
measures a rule that stores the updates on disk instead (1.4 GB for 4 sites, 22 GB for 64, in
--scratch).
"""

import argparse
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from flwr.app import Array, ArrayRecord, MetricRecord, RecordDict
from flwr.serverapp.strategy.strategy_utils import aggregate_arrayrecords
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents

from benchmarks.common import last_line
from benchmarks.method.memory import growth, in_child
from mama.config import Experiment
from mama.config.load import load
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.update import Update
from server.aggregation.combine import Combination
from server.aggregation.norm import update_norm
from server.flower.one_copy import stay_lean

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
    print(f"{len(shapes)} tensors, {size:.0f} MiB per update")
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
    """Return the shapes of the recipe's image tower; call in a child, which alone loads timm."""
    from mama.exchange.tensors import trained_shapes
    from mama.towers.image import ImageTower

    config = load(Experiment, RECIPE, ["image.pretrained=false"])
    with torch.device("meta"):
        return trained_shapes(ImageTower(config.image))


def update_of(shapes: Shapes, site: int) -> Arrays:
    """Return a site's random update, the same in each call."""
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
    over = [
        "federation.local_steps=20",
        "participation.quorum=3",
        f"strategy.aggregator.kind={rule}",
    ]
    experiment = load(Experiment, RECIPE, over)
    return Combination(experiment, shapes, scratch, sites)


def peak_of_fold(shapes: Shapes, rule: str, scratch: Path, sites: int) -> float:
    """Return the memory in MiB of a round with this many sites."""
    torch.set_num_threads(1)

    def work() -> None:
        folded = combination(shapes, rule, scratch / rule, sites)
        for site in range(sites):
            update = update_of(shapes, site)
            update_norm(update)
            folded.fold(f"site-{site}", Update(update), metrics(site))
            del update
        folded.result()
        folded.close()

    try:
        return growth(work)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def peak_of_flower(shapes: Shapes, sites: int) -> float:
    """Return the memory in MiB of the same round with Flower's function."""
    return growth(lambda: flower_round(shapes, sites))


def fold_seconds(shapes: Shapes, number: int) -> dict[str, float]:
    """Return CPU seconds per update of each part."""
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
    """Return the block as the server holds it: assembled from the pieces of a message."""
    array = Array("uint8", (len(block),), "safetensors", block)
    contents = {name: one.deflate() for name, one in get_all_nested_objects(array).items()}
    return cast(Array, inflate_object_from_contents(array.object_id, contents)).data


def flower_seconds(shapes: Shapes, number: int) -> float:
    """Return CPU seconds per update of Flower's function."""
    return flower_round(shapes, number) / number


def flower_round(shapes: Shapes, number: int) -> float:
    """Return CPU seconds of Flower's function for this many sites."""
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
