"""Packed and padded sequences hold the same entries."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mama.ragged import padded

lengths = st.lists(st.integers(0, 5), max_size=6)


@settings(deadline=None)
@given(counts=lengths, width=st.integers(0, 3))
def test_padding_puts_every_entry_in_its_place(counts: list[int], width: int) -> None:
    packed = torch.arange(sum(counts) * width).view(sum(counts), width).double().requires_grad_()
    whole, mask = padded(packed, torch.tensor(counts, dtype=torch.int64))
    assert whole.shape == (len(counts), max(counts, default=0), width)
    assert whole.dtype == torch.float64
    assert mask.sum(1).tolist() == counts
    for row, entries in zip(whole, packed.split(counts), strict=True):
        assert torch.equal(row[: len(entries)], entries)
        assert not row[len(entries) :].any()
    assert torch.equal(whole[mask], packed)
    (whole * 2).sum().backward()
    assert torch.equal(packed.grad, torch.full_like(packed, 2))
