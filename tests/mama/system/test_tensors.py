"""Tensors and optimiser state on disk: exact round trips; damage is refused in one line."""

import errno
import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from mama.errors import ModelError
from mama.system.tensors import (
    load_optimiser,
    load_tensors,
    load_weights,
    save_optimiser,
    save_tensors,
)


def test_tensors_and_state_return_as_they_were(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.safetensors"
    tensors = {
        "scalar": torch.tensor(0.1),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "half": torch.tensor([1.5], dtype=torch.bfloat16),
        "count": torch.tensor([2**40]),
        "none": torch.zeros(0, 3),
    }
    save_tensors(path, tensors, {"round": 7, "names": ["a"]})
    loaded, state = load_tensors(path)
    assert state == {"round": 7, "names": ["a"]}
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (tensor.dtype, tensor.shape)
        assert torch.equal(loaded[name], tensor)
    assert list(path.parent.iterdir()) == [path]


def test_no_room_is_the_systems_own_error_and_what_was_there_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(4)})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(OSError, match=r"x\.safetensors") as error:
            save_tensors(path, {"a": torch.ones(4000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert error.value.errno == errno.EFBIG
    assert torch.equal(load_tensors(path)[0]["a"], torch.ones(4))
    assert list(tmp_path.iterdir()) == [path]


def test_what_was_read_outlives_its_file_and_may_be_changed(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(4)})
    first, _ = load_tensors(path)
    save_tensors(path, {"a": torch.zeros(4)})
    first["a"].add_(1)
    assert torch.equal(first["a"], torch.full((4,), 2.0))
    assert torch.equal(load_tensors(path)[0]["a"], torch.zeros(4))


@pytest.mark.parametrize("damage", ["absent", "empty", "cut", "header", "text", "foreign"])
def test_damaged_files(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.ones(4)})
    whole = path.read_bytes()
    content = {
        "empty": b"",
        "cut": whole[:-1],
        "header": whole[:8] + b"}" + whole[9:],
        "text": b"not a checkpoint at all",
        "foreign": (2).to_bytes(8, "little") + b"{}",  # safetensors without our metadata
    }
    path.unlink() if damage == "absent" else path.write_bytes(content[damage])
    with pytest.raises(ModelError, match="weights cannot be read") as error:
        load_tensors(path)
    assert error.value.where == str(path)
    assert "\n" not in str(error.value)


def test_equal_tensors_give_equal_files(tmp_path: Path) -> None:
    for number in range(8):
        save_tensors(tmp_path / str(number), {"b": torch.ones(2), "a": torch.zeros(3)}, {"x": 1})
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


def test_every_flipped_bit_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3])}, {"round": 7})
    whole = path.read_bytes()
    mapped, state = load_tensors(path)
    tensors = {name: tensor.clone() for name, tensor in mapped.items()}

    def flipped(bit: int) -> bytes:
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        return bytes(damaged)

    for bit in range(8 * len(whole)):
        path.write_bytes(flipped(bit))
        with pytest.raises(ModelError) as error:
            load_tensors(path)
        assert str(path) in str(error.value), bit
    # Without the checksum a bit of a tensor passes unseen.
    last = 8 * len(whole) - 1
    monkeypatch.setattr("mama.system.tensors._sha256", lambda tensors, state: claimed(path))
    path.write_bytes(flipped(last))
    silent, same = load_tensors(path)
    assert same == state
    assert any(not torch.equal(silent[name], tensors[name]) for name in tensors)


def claimed(path: Path) -> str:
    with safe_open(path, "pt") as file:
        return file.metadata()["state"].partition(" ")[0]


def layer(out: int = 2) -> tuple[nn.Linear, torch.optim.Optimizer]:
    torch.manual_seed(0)
    linear = nn.Linear(3, out)
    groups = [{"params": [linear.weight], "weight_decay": 0.1}, {"params": [linear.bias]}]
    return linear, torch.optim.AdamW(groups, lr=0.1)


def step(linear: nn.Linear, optimiser: torch.optim.Optimizer, times: int) -> None:
    for n in range(times):
        optimiser.zero_grad()
        linear(torch.full((1, 3), n + 1.0)).square().sum().backward()
        optimiser.step()


def test_an_optimiser_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "optimiser.safetensors"
    straight, optimiser = layer()
    step(straight, optimiser, 2)
    weights = {name: value.clone() for name, value in straight.state_dict().items()}
    save_optimiser(path, optimiser)
    step(straight, optimiser, 2)
    for with_state in (True, False):
        resumed, other = layer()
        resumed.load_state_dict(weights)
        if with_state:
            load_optimiser(path, other)
        step(resumed, other, 2)
        assert torch.equal(resumed.weight, straight.weight) == with_state


def test_state_before_the_first_step(tmp_path: Path) -> None:
    _, optimiser = layer()
    save_optimiser(tmp_path / "x", optimiser)
    load_optimiser(tmp_path / "x", optimiser)
    assert optimiser.state_dict()["state"] == {}


def test_state_of_another_model(tmp_path: Path) -> None:
    linear, optimiser = layer()
    step(linear, optimiser, 1)
    save_optimiser(tmp_path / "x", optimiser)
    _, wider = layer(out=5)
    fewer = torch.optim.AdamW([nn.Parameter(torch.zeros(2, 3))])
    for other in (wider, fewer):
        with pytest.raises(
            ModelError, match=r"optimiser state belongs to another model\. Remove the file"
        ):
            load_optimiser(tmp_path / "x", other)
        assert not other.state_dict()["state"]


def normed(width: int = 2) -> nn.Module:
    """A frozen layer and a trained one, and a norm with running statistics."""
    layers = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, width), nn.BatchNorm1d(width))
    layers[0].requires_grad_(False)
    return layers


def save_trained(path: Path, model: nn.Module) -> None:
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    save_tensors(path, trained | dict(model.named_buffers()), 7)


def test_weights_return_into_a_model_that_keeps_its_frozen_ones(tmp_path: Path) -> None:
    one, other = normed(), normed()
    one(torch.rand(4, 3))  # moves the running statistics
    save_trained(tmp_path / "x", one)
    frozen = other[0].weight.clone()
    assert load_weights(tmp_path / "x", other) == 7
    assert torch.equal(other[0].weight, frozen)
    for name in ("1.weight", "1.bias", "2.weight", "2.running_mean", "2.num_batches_tracked"):
        assert torch.equal(other.state_dict()[name], one.state_dict()[name]), name


@pytest.mark.parametrize("lack", ["shape", "1.bias", "2.running_var"])
def test_weights_of_another_model_are_refused_and_change_nothing(tmp_path: Path, lack: str) -> None:
    path = tmp_path / "x"
    save_trained(path, normed(4 if lack == "shape" else 2))
    if lack != "shape":
        tensors, state = load_tensors(path)
        save_tensors(path, {name: t for name, t in tensors.items() if name != lack}, state)
    model = normed()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(ModelError, match="weights belong to another model") as error:
        load_weights(path, model)
    assert str(path) in str(error.value)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
