"""Size, speed and error of the codecs, and bytes per round of the adapter recipe.

    python -m benchmarks.federation.codecs [--repeats 3] [--tower vit_base_patch14_reg4_dinov2]
    python -m benchmarks.federation.codecs --quickstart [--seeds 0 1 2] [--work DIR]

The first form uses random updates of the image tower of configs/mama_vitb.yaml (86M values, all
trained): normal, with rows of different scale, independent between rounds. Rates are GB of float32
per CPU second for whole blocks with checksum, the median of `repeats` interleaved turns. The error
is that of the sum of 20 rounds with error feedback, relative to the sum of the updates. `change` is
the exact delta between two global models, for steps of different size relative to the weights.

It then counts, from shapes alone, one site's bytes up and down in a round of configs/mama_vitb.yaml
with adapters (rank 8) on both towers and a language model of BioMedLM's size: all trained tensors
(adapters, heads and special tokens) against all weights of the same model in float32 both ways.

The second form trains the quickstart with fp32 and with int8 and compares the final AUCs.
"""

import argparse
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import GPT2Config, PreTrainedTokenizerFast

from benchmarks.common import last_line
from mama.config import Experiment
from mama.config.load import load
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.base import Codec
from mama.exchange.codecs.block import unpack
from mama.exchange.codecs.change import apply_change, encode_change
from mama.exchange.codecs.coding import CODECS, decode, encode
from mama.exchange.codecs.feedback import ErrorFeedback
from mama.exchange.metrics import LABELS
from mama.exchange.tensors import trained_shapes
from mama.model import build_model
from mama.towers.image import ImageTower
from sim.config import SimulatedExperiment
from sim.run import federate
from sim.sites import make_sites

RECIPE = "configs/mama_vitb.yaml"
ROUNDS = 20
STEP = 8e-4  # 400 AdamW steps with lr 4e-5 in random directions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tower", default="vit_base_patch14_reg4_dinov2")
    parser.add_argument("--quickstart", action="store_true")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=Path("runs/codecs"))
    options = parser.parse_args()
    if options.quickstart:
        last_line(quickstart(options.seeds, options.work))
        return
    torch.set_num_threads(1)
    shapes = tower_shapes(options.tower)
    print(f"{options.tower}: {len(shapes)} tensors, {values_in(shapes) / 1e6:.1f}M values")
    result = rates(shapes, options.repeats) | errors(shapes) | changes() | recipe()
    for key, value in result.items():
        print(f"  {key:<28} {value}")
    last_line({"values": values_in(shapes), **result})


def tower_shapes(tower: str) -> dict[str, tuple[int, ...]]:
    """Return the shapes of the recipe's image tower with all weights trained."""
    config = load(Experiment, Path(RECIPE), [f"image.tower={tower}", "image.pretrained=false"])
    with torch.device("meta"):
        return trained_shapes(ImageTower(config.image))


def values_in(shapes: dict[str, tuple[int, ...]]) -> int:
    return sum(map(math.prod, shapes.values()))


def update(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Return a random update of one tensor: normal, with rows of different scale."""
    rows = np.exp(0.5 * random.standard_normal((*shape[:1], *(1 for _ in shape[1:])), np.float32))
    return random.standard_normal(shape, np.float32) * np.float32(STEP) * rows


def rates(shapes: dict[str, tuple[int, ...]], repeats: int) -> dict[str, float]:
    """Return sizes, and GB of float32 per CPU second for whole blocks."""
    random = np.random.default_rng(0)
    arrays = {name: update(shape, random) for name, shape in shapes.items()}
    size = sum(array.nbytes for array in arrays.values())
    encoding: dict[str, list[float]] = {name: [] for name in CODECS}
    decoding: dict[str, list[float]] = {name: [] for name in CODECS}
    feeding: list[float] = []
    ratio = {}
    for _ in range(repeats):
        for name, codec in CODECS.items():
            data, seconds = timed(lambda codec=codec: encode(arrays, codec))
            encoding[name].append(size / 1e9 / seconds)
            ratio[name] = len(data) / size
            _, seconds = timed(lambda data=data: decode(data, shapes))
            decoding[name].append(size / 1e9 / seconds)
        feedback = ErrorFeedback({name: array.copy() for name, array in arrays.items()})
        _, seconds = timed(lambda feedback=feedback: feedback.encode(arrays, CODECS["int8"]))
        feeding.append(size / 1e9 / seconds)
    result: dict[str, float] = {}
    for name in CODECS:
        result[f"bytes_ratio_{name}"] = round(ratio[name], 5)
        result[rate_name("encode", name)] = round(statistics.median(encoding[name]), 2)
        result[rate_name("decode", name)] = round(statistics.median(decoding[name]), 2)
    return result | {"encode_with_feedback_gb_s": round(statistics.median(feeding), 2)}


def rate_name(operation: str, codec: str) -> str:
    return f"{operation}_gb_s" if codec == "int8" else f"{operation}_gb_s_{codec}"


def timed(work: Callable[[], Any]) -> tuple[Any, float]:
    """Return a result and its CPU seconds."""
    begin = time.process_time()
    result = work()
    return result, time.process_time() - begin


def errors(shapes: dict[str, tuple[int, ...]]) -> dict[str, float]:
    """Return relative errors of one update and of the sum of ROUNDS with error feedback."""
    lossy = {name: codec for name, codec in CODECS.items() if codec.lossy}
    squares = {name: np.zeros(2) for name in ["truth", *lossy]}
    for number, shape in enumerate(shapes.values()):
        random = np.random.default_rng(number)
        updates = [{"x": update(shape, random)} for _ in range(ROUNDS if shape else 1)]
        truth = np.sum([u["x"] for u in updates], axis=0, dtype=np.float64)
        squares["truth"] += [np.square(updates[0]["x"]).sum(), np.square(truth).sum()]
        for name, codec in lossy.items():
            squares[name] += squared_errors(updates, truth, codec)
    result = {}
    for name in lossy:
        once, after = np.sqrt(squares[name] / squares["truth"])
        suffix = "" if name == "int8" else f"_{name}"
        result[f"error_of_one{suffix}"] = float(f"{once:.3g}")
        result[f"error_after_{ROUNDS}{suffix}"] = float(f"{after:.3g}")
    return result


def squared_errors(updates: list[Arrays], truth: np.ndarray, codec: Codec) -> np.ndarray:
    feedback, total, once = ErrorFeedback(), np.zeros(truth.shape), 0.0
    for number, arrays in enumerate(updates):
        decoded = decode(feedback.encode(arrays, codec))["x"]
        total += decoded
        if number == 0:
            once = float(np.square(decoded - arrays["x"]).sum())
    return np.array([once, np.square(total - truth).sum()])


def changes() -> dict[str, float]:
    """Return sizes and rates of exact deltas of 4M weights, by relative size of the step."""
    random = np.random.default_rng(0)
    weights = random.standard_normal((1024, 4096), np.float32) * np.float32(0.02)
    result: dict[str, float] = {}
    for relative in (0.1, 0.01, 0.001):
        step = random.standard_normal(weights.shape, np.float32) * np.float32(0.02 * relative)
        before, after = encode({"x": weights}), encode({"x": weights + step})
        data, packing = timed(lambda b=before, a=after: encode_change(b, a))
        found, unpacking = timed(lambda d=data, b=before: apply_change(unpack(d), b))
        assert found == after
        result[f"bytes_ratio_change_{relative}"] = round(len(data) / len(after), 3)
    result["encode_gb_s_change"] = round(len(after) / 1e9 / packing, 3)
    result["decode_gb_s_change"] = round(len(after) / 1e9 / unpacking, 3)
    return result


def recipe() -> dict[str, float]:
    """Return a site's bytes per round with adapters relative to exchanging all weights."""
    config = load(Experiment, Path(RECIPE), ["image.lora={rank: 8, alpha: 32, dropout: 0.1}"])
    with tempfile.TemporaryDirectory() as folder, torch.device("meta"):
        write_language_model(Path(folder))
        model = build_model(config, {config.text.tower: Path(folder)}, from_weights=False)
    shapes = trained_shapes(model)
    full = 4 * sum(parameter.numel() for parameter in model.parameters())
    arrays = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    size = {name: len(encode(arrays, codec)) for name, codec in CODECS.items()}
    parts: dict[str, int] = {}
    for name, shape in shapes.items():
        part = f"{name.split('.')[0]} adapters" if "lora_" in name else "heads and special tokens"
        parts[part] = parts.get(part, 0) + math.prod(shape)
    counted = ", ".join(f"{part} {count / 1e6:.2f}M" for part, count in parts.items())
    print(f"adapter recipe: {full / 4e6:.0f}M weights; trained: {counted}")
    return {
        "lora_trained": values_in(shapes),
        "lora_weights": full // 4,
        "lora_bytes_over_full": round(2 * size["fp32"] / (2 * full), 5),
        "lora_int8_bytes_over_full": round((size["int8"] + size["fp32"]) / (2 * full), 5),
    }


def write_language_model(folder: Path) -> None:
    """Write configuration and a one-word tokeniser of BioMedLM's size, without weights."""
    GPT2Config(
        n_embd=2560, n_layer=32, n_head=20, n_positions=1024, vocab_size=28896
    ).save_pretrained(folder)
    end = "<|endoftext|>"
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel({end: 0}, unk_token=end)),
        bos_token=end,
        eos_token=end,
        unk_token=end,
    ).save_pretrained(folder)


def quickstart(seeds: list[int], work: Path) -> dict[str, Any]:
    """Return final zero-shot AUCs by codec and seed; finished runs in `work` are reused."""
    result: dict[str, Any] = {f"{label}_{up}": [] for label in LABELS for up in ("fp32", "int8")}
    for seed in seeds:
        home = work / f"seed-{seed}"
        for up in ("fp32", "int8"):
            config = load(
                SimulatedExperiment,
                Path("configs/quickstart.yaml"),
                [f"seed={seed}", f"exchange.up={up}"],
            )
            out = home / up
            if not (out / "final" / "model.safetensors").exists():
                sites = make_sites(config, home, None, lambda *_: None)
                federate(config.experiment(), list(sites.files.values()), out)
            figures = json.loads((out / "metrics.json").read_text(encoding="utf-8"))
            for label in LABELS:
                auc = figures["evaluation"]["federated"]["zero_shot"][label]["auc"]
                result[f"{label}_{up}"].append(auc)
            print(f"seed {seed}, {up}: {figures['exchange']['bytes_up_per_site_round']} bytes up")
    for label in LABELS:
        means = [statistics.fmean(result[f"{label}_{up}"]) for up in ("fp32", "int8")]
        result[f"{label}_int8_minus_fp32"] = round(means[1] - means[0], 4)
        print(f"{label}: fp32 {means[0]:.4f}, int8 {means[1]:.4f}")
    return result


if __name__ == "__main__":
    main()
