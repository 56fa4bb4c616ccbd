"""Memory that runs short on a real GPU: the step ends in smaller chunks, with the same gradient."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.model import build_model
from mama.training.hooks import Named
from mama.training.trainer import Trainer, TrainingRecord

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
MIB = 2**20
CAP = 3 * 2**30  # of this process, so that a GPU that others use too is not filled
# A pixel a token: 0.9 GiB of activations, many times weights, gradients and optimiser's state.
LARGE = (
    "image.tower=vit_tiny_patch16_224",
    "image.options={patch_size: 1, embed_dim: 192, depth: 12, num_heads: 3}",
    "text.lora.dropout=0",
    "loss.local.start=0",
    "compute.precision=fp32",
)

Gradient = dict[str, Tensor]
Run = Callable[..., tuple[TrainingRecord, Gradient]]


@pytest.fixture
def gpu() -> Iterator[torch.device]:
    """The first GPU, of which this process may take CAP bytes."""
    device = torch.device("cuda", 0)
    total = torch.cuda.get_device_properties(device).total_memory
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(min(1.0, CAP / total), device)
    yield device
    torch.cuda.set_per_process_memory_fraction(1.0, device)
    torch.cuda.empty_cache()


@pytest.fixture
def run(
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
    dataset: Dataset,
    gpu: torch.device,
) -> Run:
    """Take a new model's first two steps; returns the record and the first step's gradient."""

    def take(*overrides: str) -> tuple[TrainingRecord, Gradient]:
        experiment = make_experiment(*LARGE, *overrides)
        model = build_model(experiment, base_models).to(gpu)
        steps: list[Gradient] = []

        def keep(parameters: Named) -> None:
            steps.append({n: p.grad.cpu() for n, p in parameters if p.grad is not None})

        pairs = StudyPairs(dataset, experiment, "site")
        record = Trainer(model, pairs, experiment, gpu, [keep]).train(0, 2)
        return record, steps[0]

    return take


def peak(run: Run, gpu: torch.device, *overrides: str) -> tuple[int, Gradient]:
    """Most bytes that two steps take, and the first one's gradient."""
    gc.collect()  # of an earlier run's model
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(gpu)
    record, gradient = run(*overrides)
    assert (record.steps, record.chunk) == (2, None)
    return torch.cuda.max_memory_allocated(gpu), gradient


def ballast(gpu: torch.device, left: int) -> Tensor:
    """Take all memory that this process may have but for `left` bytes."""
    gc.collect()
    torch.cuda.empty_cache()
    size = CAP - torch.cuda.memory_reserved(gpu) - left
    return torch.empty(size, dtype=torch.uint8, device=gpu)


def test_a_step_that_does_not_fit_is_taken_in_smaller_chunks(run: Run, gpu: torch.device) -> None:
    whole, expected = peak(run, gpu, "compute.chunk=null")
    least, _ = peak(run, gpu, "compute.chunk=1")
    assert whole - least > 300 * MIB, "the step is too small to be made short of memory"
    assert whole < CAP
    weight = ballast(gpu, (whole + least) // 2)
    assert len(weight) > CAP // 2
    record, gradient = run("compute.chunk=null")
    assert record.chunk in (1, 2)
    assert (record.steps, record.skipped) == (2, 0)
    assert record.warnings(0.0)[-1].startswith("memory was short: compute.chunk was lowered to ")
    assert gradient.keys() == expected.keys()
    difference = sum(float((gradient[n] - g).square().sum()) for n, g in expected.items())
    size = sum(float(g.square().sum()) for g in expected.values())
    assert difference**0.5 < 1e-3 * size**0.5
    del weight


def test_the_limit_of_a_process_ends_as_a_smaller_gpu(gpu: torch.device) -> None:
    within = ballast(gpu, 64 * MIB)
    with pytest.raises(torch.OutOfMemoryError):
        torch.empty(128 * MIB, dtype=torch.uint8, device=gpu)
    del within
