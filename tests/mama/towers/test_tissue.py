"""Tissue patches against a loop over pixels, and the layout of packed tokens."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from mama.towers.tissue import maximum_of, mean_of, pack, tissue_patches


@given(
    grid=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    patch=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    tissue=st.integers(0, 12),
    seed=st.integers(0, 99),
)
def test_a_patch_counts_if_any_of_its_pixels_is_tissue(
    grid: tuple[int, int], patch: tuple[int, int], tissue: int, seed: int
) -> None:
    height, width = grid[0] * patch[0], grid[1] * patch[1]
    images = torch.full((2, 1, height, width), -1.0)
    generator = torch.Generator().manual_seed(seed)
    expected = torch.zeros(2, *grid, dtype=torch.bool)
    for _ in range(tissue):
        image, row, column = (
            int(torch.randint(n, (), generator=generator)) for n in (2, height, width)
        )
        images[image, 0, row, column] = 1 / 127.5 - 1  # the darkest tissue: byte 1
        expected[image, row // patch[0], column // patch[1]] = True
    assert torch.equal(tissue_patches(images, grid), expected.flatten(1))


CPU = torch.device("cpu")
KEPT = torch.tensor([[False, True, True], [True, False, False]])


def test_a_packing_names_rows_owners_patches_and_lengths() -> None:
    packing = pack(KEPT, 2, CPU)  # five tokens an image, the first two no patches
    assert packing.rows.tolist() == [0, 1, 3, 4, 5, 6, 7]
    assert packing.owner.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert packing.patches.tolist() == [2, 3, 6]
    assert packing.lengths == [4, 3]
    assert (packing.counts.tolist(), packing.counts.dtype) == ([2, 1], torch.int64)


def test_no_image_packs_into_nothing() -> None:
    packing = pack(KEPT[:0], 2, CPU)
    assert (packing.lengths, packing.longest, len(packing.rows)) == ([], 0, 0)
    assert packing.starts.tolist() == [0]


@pytest.fixture
def tokens() -> Tensor:
    return torch.tensor([[1.0, -1.0], [4.0, -2.0], [10.0, -3.0]])


def test_pooling_keeps_images_apart(tokens: Tensor) -> None:
    packing = pack(KEPT, 0, CPU)
    assert_close(mean_of(tokens, packing), torch.tensor([[2.5, -1.5], [10.0, -3.0]]))
    assert_close(maximum_of(tokens, packing), torch.tensor([[4.0, -1.0], [10.0, -3.0]]))


def test_means_of_half_precision_are_summed_in_fp32() -> None:
    packing = pack(torch.ones(1, 4096, dtype=torch.bool), 0, CPU)
    mean = mean_of(torch.full((4096, 1), 1.0, dtype=torch.bfloat16), packing)
    assert (mean.item(), mean.dtype) == (1.0, torch.float32)
    assert maximum_of(torch.ones(4096, 1, dtype=torch.bfloat16), packing).dtype == torch.float32
