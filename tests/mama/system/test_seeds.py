"""Seeds: pinned values (every machine and release draws the same), and no two uses share one."""

import hashlib

import numpy as np
import torch

from mama.system.seeds import derive, numpy_generator, torch_generator

PINNED = (3456079177858693020, 2455889757868115119)


def test_pinned_values() -> None:
    assert derive(0) == PINNED[0]
    assert derive(7, "site", "batch", 12) == PINNED[1]
    text = "7\x1fsite\x1fbatch\x1f12"
    first_bytes = hashlib.sha256(text.encode()).digest()[:8]
    assert derive(7, "site", "batch", 12) == int.from_bytes(first_bytes, "big") // 2


def test_names_are_not_confused() -> None:
    names = [
        (),
        ("a",),
        ("b",),
        ("ab",),
        ("a", "b"),
        ("b", "a"),
        ("", "ab"),
        ("ab", ""),
        ("a", "b", 1),
    ]
    seeds = {derive(seed, *name) for seed in (0, 1, 11) for name in names}
    assert len(seeds) == 3 * len(names)
    assert derive(1, "1x") != derive(11, "x")
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_generators_draw_from_the_derived_seed() -> None:
    expected = np.random.default_rng(derive(3, "order", 1)).permutation(8)
    assert np.array_equal(numpy_generator(3, "order", 1).permutation(8), expected)
    twin = torch.Generator().manual_seed(derive(3, "order", 1))
    assert torch.equal(
        torch.rand(4, generator=torch_generator(3, "order", 1)), torch.rand(4, generator=twin)
    )
    other = torch.rand(4, generator=torch_generator(3, "order", 2))
    assert not torch.equal(torch.rand(4, generator=torch_generator(3, "order", 1)), other)
