"""Site's limit on GPU memory, simulated and real: enforced by CUDA or refused before."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from client.errors import RefusedError
from client.handlers import answer
from client.preflight.check import guarded
from client.preflight.experiment import check_experiment
from client.site.config import SiteFile, load_site
from client.training import gpu_memory, tasks
from client.training.gpu_memory import least_memory, limit_gpu_memory
from mama.config import Experiment
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task

GPU = torch.device("cuda", 0)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[float, torch.device]]:
    """Fractions set on a GPU of 8 GiB."""
    fractions: list[tuple[float, torch.device]] = []
    monkeypatch.setattr(
        gpu_memory.torch.cuda,
        "get_device_properties",
        lambda device: SimpleNamespace(total_memory=8 * 2**30),
    )
    monkeypatch.setattr(
        gpu_memory.torch.cuda,
        "set_per_process_memory_fraction",
        lambda *arguments: fractions.append(arguments),
    )
    return fractions


@pytest.fixture
def site(edit: Callable[..., Path]) -> Callable[[float | None], SiteFile]:
    return lambda limit: load_site(edit(policy={"max_gpu_gib": limit}))


def layer() -> nn.Linear:
    """300 weights of 4 bytes, of which 200 train."""
    made = nn.Linear(20, 10, bias=False)
    made.register_parameter("fixed", nn.Parameter(torch.zeros(100), requires_grad=False))
    return made


def test_weights_and_gradients_are_the_least() -> None:
    assert least_memory(layer()) == 4 * (300 + 200)
    assert least_memory(layer().to(torch.bfloat16)) == 2 * (300 + 200)


@pytest.mark.parametrize(("limit", "fraction"), [(2.0, 0.25), (8.0, 1.0), (80.0, 1.0)])
def test_cuda_gets_the_share(
    site: Callable[..., SiteFile],
    asked: list[tuple[float, torch.device]],
    limit: float,
    fraction: float,
) -> None:
    limit_gpu_memory(site(limit), layer(), GPU)
    assert asked == [(fraction, GPU)]


def test_without_a_limit_or_a_gpu_nothing_is(
    site: Callable[..., SiteFile], asked: list[tuple[float, torch.device]]
) -> None:
    limit_gpu_memory(site(None), layer(), GPU)
    limit_gpu_memory(site(1e-9), layer(), torch.device("cpu"))
    assert asked == []


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_beyond_the_limit_a_real_gpu_is_full(site: Callable[..., SiteFile]) -> None:
    torch.cuda.empty_cache()
    left = 2**29 + torch.cuda.memory_reserved(GPU)
    limit_gpu_memory(site(left / 2**30), layer(), GPU)
    try:
        within = torch.empty(2**28, dtype=torch.uint8, device=GPU)
        with pytest.raises(torch.OutOfMemoryError):
            torch.empty(2**29, dtype=torch.uint8, device=GPU)
        del within
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, GPU)
        torch.cuda.empty_cache()


def test_the_limit_itself_is_allowed_and_a_byte_less_refused(
    site: Callable[..., SiteFile], asked: list[tuple[float, torch.device]]
) -> None:
    limit_gpu_memory(site(2000 / 2**30), layer(), GPU)
    with pytest.raises(RefusedError) as refused:
        limit_gpu_memory(site(1999 / 2**30), layer(), GPU)
    assert refused.value.code == ErrorCode.POLICY_MEMORY
    assert len(asked) == 1


def test_a_model_that_is_too_large_never_gets_to_the_gpu(
    site: Callable[..., SiteFile],
    make_task: Callable[..., Task],
    experiment: Experiment,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = site(1e-5)
    monkeypatch.setattr(tasks, "device_of", lambda name: GPU)
    reply, _ = answer(small, make_task("describe").encode(), b"")
    assert reply.status == ErrorCode.POLICY_MEMORY
    reply, _ = answer(small, make_task("describe", protocol=2).encode(), b"")
    assert reply.status == ErrorCode.POLICY_MEMORY
    *_, found = guarded("experiment", check_experiment(small, experiment))
    assert (found.verdict, found.remedy) == ("FAIL", "The site refuses with code policy_memory")


def test_a_gpu_that_is_full_has_a_code(
    site_file: Path, make_task: Callable[..., Task], payload: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*arguments: Any, **options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(tasks, "evaluate", full)
    reply, _ = answer(load_site(site_file), make_task("evaluate").encode(), payload)
    assert reply.status == ErrorCode.TRAINING
