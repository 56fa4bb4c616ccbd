"""Paper's step on a GPU: images per second, model FLOP utilisation and memory.

    python -m benchmarks.gpu.step [--quick] [--runs 4]

ViT-B/14 at 518 px, 36 studies, a text tower of BioMedLM's size with LoRA, random weights, bf16. The
images are drawn and keep 0.46 of their patches, as real films do. *published* is the published
implementation written anew (benchmarks/method/plain_mama.py) under bf16 autocast, with the largest
batch that fits; `speedup` is images a second over its. MFU is `useful_flops` over time and peak.
"""

import argparse
from collections.abc import Callable
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from transformers import GPT2Config, GPT2Model

from benchmarks.common import last_line
from benchmarks.gpu.measure import measured, peak_flops, useful_flops
from benchmarks.gpu.workload import (
    PAPER,
    SMALL,
    DrawnPairs,
    Size,
    kept,
    make_model,
    make_text_folder,
    paper_experiment,
)
from benchmarks.method.plain_mama import PlainBatch, PlainMaMA
from benchmarks.method.workload import TEXT
from mama.model import MaMA
from mama.training.trainer import Trainer

SIDES: dict[str, dict[str, Any]] = {
    "all_tokens": {"image": {"tokens": "all"}},
    "tissue": {},
    "checkpointing": {"compute": {"checkpointing": True}},
    "caching": {"compute": {"chunk": 12}},
}
TOKENS = 144


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=4)
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    size = SMALL if options.quick else PAPER
    with TemporaryDirectory() as name:
        last_line(figures(size, Path(name), device, options.runs))


def figures(size: Size, folder: Path, device: torch.device, runs: int) -> dict[str, Any]:
    """Return the figures of all sides."""
    models, peaks = make_text_folder(folder, size), peak_flops(device)
    pairs = DrawnPairs(size, size.studies)
    result: dict[str, Any] = {"keep": round(kept(pairs.made[0].first), 3), "peaks": peaks}
    result["published"] = published(size, folder, pairs, device, runs)
    print("published", result["published"], flush=True)
    made = paper_experiment(size)
    model = make_model(made, models, device)
    tokens = int(model.text.tokenise(pairs.made[0].reports).mask.sum())
    for side, sections in SIDES.items():
        found = measured(our_step(size, model, pairs, device, sections), device, runs)
        found |= rates(size, pairs, tokens, found, peaks, tissue=side != "all_tokens")
        result[side] = found
        print(side, found, flush=True)
    large = DrawnPairs(size, 8 * size.studies, different=1)
    sections = {"compute": {"chunk": size.studies, "checkpointing": True}}
    result["batch_of_288"] = measured(our_step(size, model, large, device, sections), device, 2)
    print("batch_of_288", result["batch_of_288"], flush=True)
    sections = {"compute": {"compile": True}}
    found = measured(our_step(size, model, pairs, device, sections), device, runs)
    result["compiled"] = found | rates(size, pairs, tokens, found, peaks, tissue=True)
    print("compiled", result["compiled"], flush=True)
    for side in (*SIDES, "compiled"):
        if "images_per_s" in result[side] and "images_per_s" in result["published"]:
            ratio = result[side]["images_per_s"] / result["published"]["images_per_s"]
            result[side]["speedup"] = round(ratio, 2)
    return result


def our_step(
    size: Size, model: MaMA, pairs: DrawnPairs, device: torch.device, sections: dict[str, Any]
) -> Callable[[], object]:
    """Return a function that takes the next step with these settings."""
    made = paper_experiment(size, **{name: dict(values) for name, values in sections.items()})
    model.image.tissue_only = made.image.tokens == "tissue"
    trainer, numbers = Trainer(model, pairs.fresh(), made, device), count()
    return lambda: trainer.train(next(numbers), 1)


def published(
    size: Size, folder: Path, pairs: DrawnPairs, device: torch.device, runs: int
) -> dict[str, Any]:
    """Return the figures of the published form with the largest batch that fits."""
    settings = GPT2Config.from_pretrained(folder / TEXT, attn_implementation="eager")
    settings.use_cache = False
    width = size.image_width
    with device:
        model = PlainMaMA(size.pixels, GPT2Model(settings), width, size.image_heads).train()
    model.to(device)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=4e-5, weight_decay=0.1)
    studies = size.studies
    while studies:
        batch = plain_batch(pairs, studies, size.vocabulary, device)

        def step(batch: PlainBatch = batch) -> None:
            optimiser.zero_grad()
            with torch.autocast(device.type, torch.bfloat16):
                loss = model(batch)
            loss.backward()
            optimiser.step()

        found = measured(step, device, runs)
        if "seconds" in found:
            found |= {"studies": studies}
            return found | {"images_per_s": round(2 * studies / found["seconds"], 1)}
        studies //= 2
    return {"out_of_memory": True}


def plain_batch(
    pairs: DrawnPairs, studies: int, vocabulary: int, device: torch.device
) -> PlainBatch:
    """Return the drawn images in three channels, and random words padded to the limit."""
    made, generator = pairs.made[0], torch.Generator().manual_seed(0)
    views = [v[:studies].expand(-1, 3, -1, -1).to(device) for v in (made.first, made.second)]
    ids = torch.randint(1, vocabulary, (studies, TOKENS), generator=generator).to(device)
    ends = [torch.arange(12, TOKENS, 13, device=device)] * studies
    return PlainBatch(*views, ids, torch.ones_like(ids), ends)


def rates(
    size: Size,
    pairs: DrawnPairs,
    tokens: int,
    found: dict[str, Any],
    peaks: dict[str, float],
    *,
    tissue: bool,
) -> dict[str, Any]:
    """Return images a second and the share of each peak."""
    if "seconds" not in found:
        return {}
    flops = useful_flops(size, pairs.made[0], tokens, tissue=tissue)
    result = {"images_per_s": round(2 * size.studies / found["seconds"], 1)}
    for name, peak in peaks.items():
        result[f"mfu_{name}"] = round(flops / found["seconds"] / peak, 3)
    return result


if __name__ == "__main__":
    main()
