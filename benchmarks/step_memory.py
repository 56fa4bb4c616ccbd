"""Memory of one step of 36 studies with ViT-S/14 at 518 px: gradient caching and checkpointing.

    python benchmarks/step_memory.py [--chunk 2] [--precision fp32] [--tokens tissue|all]

All four terms, the paper's heads, AdamW with its state; a GPT-2 of 4 layers. `peak_rss_gib` is the peak resident
memory of the process that takes the step, everything included.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import mama  # noqa: F401  before torch: it sets how idle threads wait

# isort: split
import torch
from common import last_line
from memory import in_child, peak
from workload import STILL, VIT_SMALL, experiment, make_dataset, make_text_model, table

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.model import build_model
from mama.trainer import Trainer

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
