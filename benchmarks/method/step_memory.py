"""Memory of one step of 36 studies with ViT-S/14 at 518 px: gradient caching and checkpointing.

    python -m benchmarks.method.step_memory [--chunk 2] [--precision fp32] [--tokens tissue|all]

All four terms, the paper's heads, AdamW with its state, a 4-layer GPT-2. `peak_rss_gib` is the peak
resident memory of the process that takes the step, including everything.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.common import last_line
from benchmarks.method.memory import in_child, peak
from benchmarks.method.workload import (
    STILL,
    VIT_SMALL,
    experiment,
    make_dataset,
    make_text_model,
    table,
)
from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.model import build_model
from mama.training.trainer import Trainer

STUDIES, SIZE = 36, 518


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--chunk", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--tokens", choices=["tissue", "all"], default="tissue")
    options = parser.parse_args()
    made = experiment(
        {"tower": VIT_SMALL, "size": [SIZE, SIZE], "tokens": options.tokens},
        STUDIES,
        augment=STILL,
        compute={
            "precision": options.precision,
            "chunk": options.chunk,
            "checkpointing": True,
        },
    )
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_dataset(folder, STUDIES, SIZE)
        make_text_model(folder)
        last_line(vars(options) | in_child(measured, folder, made))


def measured(folder: Path, made: Experiment) -> dict[str, object]:
    torch.set_num_threads(1)
    pairs = StudyPairs(Dataset(folder), made, "site")
    trainer = Trainer(build_model(made, table(folder)), pairs, made, torch.device("cpu"))
    before, began = peak(), time.process_time()
    record = trainer.train(0, 1)
    return {
        "peak_rss_gib": round(peak() / 1024, 2),
        "before_gib": round(before / 1024, 2),
        "cpu_s": round(time.process_time() - began),
        "terms": sorted(record.means()),
    }


if __name__ == "__main__":
    main()
