"""A whole training step on every device of this machine; without a GPU that is the processor alone.

There a pretended GPU catches tensors on the wrong device: everything forward of a step, on tensors
that compute on the processor, say they are on a GPU, and meet no other. torch's FakeTensor cannot
do this: it has no values, and what a step computes depends on pixels and words.
"""

import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.errors import ConfigError
from mama.model import MaMA, build_model
from mama.training import objective
from mama.training.device import choose_device, device_of
from mama.training.diagnostics import health
from mama.training.objective import TERMS, Encoded, encode, losses
from mama.training.trainer import Trainer

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
GPU = torch.device("cuda", 0)
# torch moves single numbers, and itself brings indices to the device of what they index.
MIXING = (
    torch.ops.aten._to_copy.default,
    torch.ops.aten.copy_.default,
    torch.ops.aten.index.Tensor,
)


# What needs a value of the GPU on the CPU, and so waits for all work before it.
WAITING = (
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.nonzero.default,
)
WAITS: list[str] = []  # files that waited


class OnGPU(Tensor):
    """A tensor of the processor that says it is on a GPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "OnGPU":
        made = Tensor._make_wrapper_subclass(
            cls,
            held.size(),
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device="meta",
            dispatch_device=True,
        )
        made.held = held
        return made

    def tolist(self) -> list:
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return on_its_device(func, args, kwargs or {})


class PretendedGPU(TorchDispatchMode):
    """Mode in which `.to("cuda")` and `device="cuda"` give such tensors, as in FakeTensorMode."""

    _mode_key = torch._C._TorchDispatchModeKey.FAKE

    def __enter__(self) -> "PretendedGPU":
        torch._C._set_only_lift_cpu_tensors(True)
        torch._C._ensureCUDADeviceGuardSet()
        return super().__enter__()

    def __exit__(self, *error) -> None:
        torch._C._set_only_lift_cpu_tensors(False)
        super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return on_its_device(func, args, kwargs or {})


def on_its_device(func, args, kwargs):
    """Compute on the CPU; the result is on the arguments' device, or on the requested one."""
    if func is torch.ops.prim.device.default:
        return GPU
    on_gpu = any(isinstance(value, OnGPU) for value in tree_leaves((args, kwargs)))
    if on_gpu and (func in WAITING or torch.device(kwargs.get("device") or GPU).type == "cpu"):
        frames = [f.filename for f in traceback.extract_stack() if "/torch/" not in f.filename]
        WAITS.append(next(Path(name).name for name in reversed(frames) if name != __file__))
    devices = set()

    def held(value):
        if isinstance(value, Tensor) and value.ndim:
            devices.add("cuda" if isinstance(value, OnGPU) else "cpu")
        return value.held if isinstance(value, OnGPU) else value

    found = [tree_map(held, args), tree_map(held, kwargs)]
    scalar = any(isinstance(value, OnGPU) for value in tree_leaves(args))
    if len(devices) == 2 and func not in MIXING:
        raise RuntimeError(f"{func}: tensors on the CPU and on the GPU")
    result = func(*found[0], **found[1] | ({"device": "cpu"} if kwargs.get("device") else {}))
    where = torch.device(kwargs["device"]).type if kwargs.get("device") else None
    if (where or ("cuda" if scalar or "cuda" in devices else "cpu")) == "cpu":
        return result
    if args and isinstance(args[0], OnGPU) and result is args[0].held:
        return args[0]  # done in place
    return tree_map(lambda value: OnGPU(value) if isinstance(value, Tensor) else value, result)


# With a GPU torch chooses kernels that only it has, and the step on it is tested below.
pretended = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU")


@pytest.fixture
def step_forward(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Callable[..., tuple[MaMA, Batch, Callable[[Batch], tuple[Encoded, dict[str, Tensor]]]]]:
    """A model, a batch, and what a step computes forward of it, health included."""

    def make(*overrides: str):
        experiment = make_experiment("loss.local.start=0", *overrides)
        model = build_model(experiment, base_models).eval()

        def forward(batch: Batch) -> tuple[Encoded, dict[str, Tensor]]:
            kept = model.image.kept(batch.first), model.image.kept(batch.second)
            batch = replace(batch, kept=kept)
            WAITS.clear()
            found = encode(model, batch.to(model.logit_scale.device), TERMS)
            scales = model.logit_scale, model.local_scale
            values = losses(found, *scales, experiment.loss, TERMS)
            # transformers reads the padding mask before there is any work to wait for.
            assert set(WAITS) <= {"masking_utils.py"}
            assert health(found, model.logit_scale, float(values["image_text"])) is not None
            return found, values

        return model, StudyPairs(dataset, experiment, "site").batch(0), forward

    return make


@pretended
@pytest.mark.parametrize(
    "override",
    [
        "image.tokens=tissue",
        "image.tokens=all",
        "text.sentences=mean",
        "heads.norm=batch",
        "loss.identical_texts_match=false",
    ],
)
def test_everything_forward_of_a_step_stays_on_the_gpu(step_forward, override: str) -> None:
    model, batch, forward = step_forward(override)
    with torch.no_grad():
        expected = forward(batch)
        with PretendedGPU():
            model.to(GPU)
            _, values = forward(batch)
    for name, value in expected[1].items():
        assert values[name].device == GPU
        torch.testing.assert_close(values[name].held, value)


@pretended
@pytest.mark.parametrize("part", ["text.separator", "view_head.0.weight", "image.model.cls_token"])
def test_a_part_left_on_the_cpu_is_noticed(step_forward, part: str) -> None:
    """Else the test above could not fail."""
    model, batch, forward = step_forward()
    left, (module, _, name) = model.get_parameter(part), part.rpartition(".")
    with torch.no_grad(), PretendedGPU():
        model.to(GPU)
        setattr(model.get_submodule(module), name, left)
        with pytest.raises(RuntimeError, match="tensors on the CPU and on the GPU"):
            forward(batch)


@pretended
def test_a_wait_for_the_gpu_is_noticed(step_forward, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else no test would see one."""
    model, batch, forward = step_forward()
    plain = objective.packed_alignment_loss

    def waits(patches: Tensor, *args, **named) -> Tensor:
        assert patches.sum().item() != 7
        return plain(patches, *args, **named)

    monkeypatch.setattr(objective, "packed_alignment_loss", waits)
    with torch.no_grad(), PretendedGPU():
        model.to(GPU)
        with pytest.raises(AssertionError, match="masking_utils"):
            forward(batch)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_step_waits_twice_for_a_real_gpu(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> None:
    """For the losses, once the gradient is there, and for its norm; transformers reads its mask."""
    experiment = make_experiment("loss.local.start=0", "compute.precision=bf16")
    pairs = StudyPairs(dataset, experiment, "site")
    trainer = Trainer(build_model(experiment, base_models).to("cuda"), pairs, experiment, GPU)
    trainer.train(0, 2)
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as waits:
            warnings.simplefilter("always")
            trainer.train(2, 1)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    files = Counter(Path(wait.filename).name for wait in waits if "ynchroniz" in str(wait.message))
    assert files["trainer.py"] == 2
    assert set(files) <= {"trainer.py", "masking_utils.py"}


STEP = ("loss.local.start=0", "text.lora.dropout=0", "compute.precision=fp32")


@pytest.fixture
def two_steps(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Callable[..., dict[str, float]]:
    """The terms of two steps of training on a device."""

    def take(where: str, *overrides: str) -> dict[str, float]:
        experiment = make_experiment(*STEP, *overrides)
        model = build_model(experiment, base_models).to(where)
        pairs = StudyPairs(dataset, experiment, "site")
        record = Trainer(model, pairs, experiment, torch.device(where)).train(0, 2)
        assert {p.device.type for p in model.parameters()} == {where}
        assert record.means().keys() == {*TERMS, "loss"}
        return record.means()

    return take


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "override", ["compute.chunk=2", "compute.checkpointing=true", "image.tokens=all"]
)
def test_a_step_is_the_processors_step(two_steps, device: str, override: str) -> None:
    # All tokens on both sides: that changes what is computed.
    expected = two_steps("cpu", *([override] if "tokens" in override else []))
    # AdamW's first step is the sign of each gradient, which rounding turns around for the smallest.
    assert two_steps(device, override) == pytest.approx(expected, rel=5e-3)


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("compute.chunk=3", "compute.checkpointing=true")])
def test_compiled_towers_take_the_same_step(
    two_steps, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated by torch.compile, but run eagerly: code generation is slow."""
    compiled: list[str] = []
    plain = torch.compile

    def trace(called: Callable, **options: object) -> Callable:
        compiled.append(type(getattr(called, "__self__", called)).__name__)
        return plain(called, backend="aot_eager", **options)

    monkeypatch.setattr(torch, "compile", trace)
    expected = two_steps("cpu")
    assert not compiled
    assert two_steps("cpu", "compute.compile=true", *more) == pytest.approx(expected, rel=1e-3)
    assert compiled == ["function", "BertEmbeddings", "BertLayer"]


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", "mps", "meta"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a device"):
        choose_device(name)


def test_a_gpu_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--device cuda:99: no such GPU"):
        choose_device("cuda:99")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device cuda: no such GPU: none found"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")


def test_auto_is_the_gpu_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert device_of("auto") == torch.device("cuda:0")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert device_of("auto") == torch.device("cuda:1")
    assert device_of("cuda") == torch.device("cuda")
