"""Yogi, against the paper's formula worked out by hand and written in numpy."""

import numpy as np
import pytest
import torch

from server.aggregation.yogi import Yogi


def test_two_steps_by_hand() -> None:
    x = torch.tensor([1.0], dtype=torch.float64)
    yogi = Yogi([x], lr=0.5, betas=(0.5, 0.75), eps=2.0)
    x.grad = torch.tensor([4.0], dtype=torch.float64)
    yogi.step()
    # m = 0.5·0 + 0.5·4 = 2; v = 4 - 0.25·16·sign(4 - 16) = 8
    first = 1 - 0.5 * 2 / (np.sqrt(8) + 2)
    assert x.item() == pytest.approx(first, rel=1e-12)
    x.grad = torch.tensor([-2.0], dtype=torch.float64)
    yogi.step()
    # m = 0.5·2 - 0.5·2 = 0, so x stays; v = 8 - 0.25·4·sign(8 - 4) = 7
    assert x.item() == pytest.approx(first, rel=1e-12)
    assert yogi.state[x]["exp_avg"].item() == 0
    assert yogi.state[x]["exp_avg_sq"].item() == 7


def test_many_steps_against_numpy() -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(3, 2)), rng.normal(0, 0.1, (20, 3, 2))
    x, m, v = start.copy(), 0.0, 1e-6
    for g in gradients:
        m = 0.9 * m + 0.1 * g
        v = v - 0.01 * g**2 * np.sign(v - g**2)
        x = x - 0.01 * m / (np.sqrt(v) + 1e-3)

    parameter = torch.from_numpy(start.copy())
    yogi = Yogi([parameter], lr=0.01, betas=(0.9, 0.99), eps=1e-3)
    for g in gradients:
        parameter.grad = torch.from_numpy(g)
        yogi.step()
    np.testing.assert_allclose(parameter.numpy(), x, rtol=1e-12)


def test_a_parameter_without_a_gradient_stays() -> None:
    moved, still = torch.ones(2), torch.ones(2)
    yogi = Yogi([moved, still], lr=0.1, betas=(0.9, 0.99), eps=1e-3)
    moved.grad = torch.ones(2)
    yogi.step()
    assert still.tolist() == [1, 1]
    assert moved.max() < 1
    assert still not in yogi.state
