"""The fingerprint: changed by every frozen weight and by no trained one."""

import pytest
import torch
from torch import nn

from mama.exchange.fingerprint import fingerprint, parameter_counts
from mama.model import MaMA


def test_every_frozen_weight_counts_and_no_trained_one_does(model: MaMA) -> None:
    original = fingerprint(model)
    assert len(original) == 64
    seen = {original}
    for name, parameter in model.named_parameters():
        kept = parameter.detach().clone()
        with torch.no_grad():
            parameter.view(-1)[-1] += 0.5
        changed = fingerprint(model)
        assert (changed == original) == parameter.requires_grad, name
        seen.add(changed)
        with torch.no_grad():
            parameter.copy_(kept)
    assert fingerprint(model) == original
    assert len(seen) == 1 + sum(not p.requires_grad for p in model.parameters())


def frozen(*shape: int) -> nn.Linear:
    layer = nn.Linear(*shape, bias=False).requires_grad_(False)
    nn.init.ones_(layer.weight)
    return layer


def test_names_and_shapes_count() -> None:
    prints = [
        fingerprint(nn.ModuleDict(parts))
        for parts in (
            {"a": frozen(2, 3)},
            {"b": frozen(2, 3)},
            {"a": frozen(3, 2)},
            {"a": frozen(2, 3).requires_grad_()},
        )
    ]
    assert len(set(prints)) == 4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_number_format_does_not_count(dtype: torch.dtype) -> None:
    assert fingerprint(frozen(2, 3).to(dtype)) == fingerprint(frozen(2, 3))


def test_parameters_are_counted() -> None:
    model = nn.Sequential(nn.Linear(2, 3), frozen(4, 5))
    assert parameter_counts(model) == (9, 20)
