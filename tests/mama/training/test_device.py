"""autocast_dtype: the dtype that autocast currently uses."""

import torch

from mama.training.device import autocast, autocast_dtype

CPU = torch.device("cpu")


def test_autocast_dtype_follows_the_context() -> None:
    assert autocast_dtype(CPU) is None
    with autocast(CPU, torch.bfloat16):
        assert autocast_dtype(CPU) == torch.bfloat16
        with autocast(CPU, torch.float32):
            assert autocast_dtype(CPU) is None
