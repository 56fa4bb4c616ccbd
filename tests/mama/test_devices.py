"""A whole training step on every device of this machine; without a GPU that is the processor alone.

There a pretended GPU catches tensors on the wrong device: everything forward of a step, on tensors that compute on the
processor, say they are on a GPU, and meet no other. torch's FakeTensor cannot do this: it has no values, and what
a step computes depends on pixels and words.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.devices import choose_device
from mama.errors import ConfigError
from mama.health import health
from mama.model import MaMA, build_model
from mama.objective import TERMS, Encoded, encode, losses
from mama.trainer import Trainer

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
GPU = torch.device("cuda", 0)
# torch moves single numbers, and itself brings indices to the device of what they index.
MIXING = (
    torch.ops.aten._to_copy.default,
    torch.ops.aten.copy_.default,
    torch.ops.aten.index.Tensor,
)


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
    """Within it `.to("cuda")` and `device="cuda"` give such tensors; as in FakeTensorMode, no driver is asked for."""

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
    """Compute on the processor; the result is where the arguments are, or where it is asked to be."""
    if func is torch.ops.prim.device.default:
        return GPU
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


@pytest.fixture
def step_forward(
    make_experiment: Callable[..., Experiment], base_models: dict[str, Path], dataset: Dataset
) -> Callable[..., tuple[MaMA, Batch, Callable[[Batch], tuple[Encoded, dict[str, Tensor]]]]]:
    """A model, a batch, and what a step computes forward of it, health included."""

    def make(*overrides: str):
        experiment = make_experiment("loss.local.start=0", *overrides)
        model = build_model(experiment, base_models).eval()

        def forward(batch: Batch) -> tuple[Encoded, dict[str, Tensor]]:
            found = encode(model, batch, TERMS)
            scales = model.logit_scale, model.local_scale
            values = losses(found, *scales, experiment.loss, TERMS)
            assert health(found, model.logit_scale, float(values["image_text"])) is not None
            return found, values

        return model, StudyPairs(dataset, experiment, "site").batch(0), forward

    return make


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
            _, values = forward(batch.to(GPU))
    for name, value in expected[1].items():
        assert values[name].device == GPU
        torch.testing.assert_close(values[name].held, value)


@pytest.mark.parametrize("part", ["text.separator", "view_head.0.weight", "image.model.cls_token"])
def test_a_part_left_on_the_cpu_is_noticed(step_forward, part: str) -> None:
    """Else the test above could not fail."""
    model, batch, forward = step_forward()
    left, (module, _, name) = model.get_parameter(part), part.rpartition(".")
    with torch.no_grad(), PretendedGPU():
        model.to(GPU)
        setattr(model.get_submodule(module), name, left)
        with pytest.raises(RuntimeError, match="tensors on the CPU and on the GPU"):
            forward(batch.to(GPU))


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
    assert two_steps(device, override) == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("more", [(), ("compute.chunk=3", "compute.checkpointing=true")])
def test_compiled_towers_take_the_same_step(
    two_steps, more: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traced and differentiated by torch.compile, but run as they are: generating code takes minutes."""
    compiled: list[str] = []
    plain = torch.nn.Module.compile

    def trace(module: torch.nn.Module, **options: object) -> None:
        compiled.append(type(module).__name__)
        plain(module, backend="aot_eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", trace)
    expected = two_steps("cpu")
    assert not compiled
    assert two_steps("cpu", "compute.compile=true", *more) == pytest.approx(expected, rel=1e-3)
    assert compiled == ["ImageTower", "BertModel"]


@pytest.mark.parametrize("name", ["gpu", "cuda:", "cuda:x", "CPU", "", "mps", "meta"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="is no device"):
        choose_device(name)


def test_a_gpu_that_is_not_here_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="--device cuda:99: no such GPU"):
        choose_device("cuda:99")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="--device cuda: no such GPU: none here"):
        choose_device("cuda")
    assert choose_device("auto") == choose_device("cpu") == torch.device("cpu")
