"""A whole training step on every device of this machine; without a GPU that is the processor alone.

What a missing GPU would catch of tensors on the wrong device, the fake-device tests of towers and losses catch.
"""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.devices import choose_device
from mama.errors import ConfigError
from mama.model import build_model
from mama.objective import TERMS
from mama.trainer import Trainer

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(
    "override", ["compute.chunk=2", "compute.checkpointing=true", "image.tokens=all"]
)
def test_a_step_is_the_processors_step(
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
    dataset: Dataset,
    device: str,
    override: str,
) -> None:
    overrides = ["loss.local.start=0", "text.lora.dropout=0", "compute.precision=fp32"]
    if override == "image.tokens=all":
        overrides.append(override)  # on both sides: it changes what is computed

    def step(where: str, *more: str) -> dict[str, float]:
        experiment = make_experiment(*overrides, *more)
        model = build_model(experiment, base_models).to(where)
        pairs = StudyPairs(dataset, experiment, "site")
        record = Trainer(model, pairs, experiment, torch.device(where)).train(0, 2)
        assert {p.device.type for p in model.parameters()} == {where}
        return record.means()

    expected = step("cpu")
    assert expected.keys() == {*TERMS, "loss"}
    assert step(device, override) == pytest.approx(expected, rel=1e-3)


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
