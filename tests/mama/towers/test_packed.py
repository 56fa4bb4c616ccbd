"""Packed blocks against timm's own, one image at a time, and the blocks that are refused."""

from typing import Any

import pytest
import timm
import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.testing import assert_close

from mama.errors import ModelError
from mama.towers import packed
from mama.towers.packed import check_packable, packed_block
from mama.towers.tissue import Packing, pack

KEPT = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 0, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)


def block(**options: Any) -> Any:
    """The second, random block of a small transformer in fp64: its drop_path is the rate."""
    values = {"img_size": 32, "depth": 2, "embed_dim": 32, "num_heads": 2, "num_classes": 0}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = timm.create_model("vit_tiny_patch16_224", **values | options).blocks[1].double()
        for parameter in found.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return found


@pytest.fixture
def packing() -> Packing:
    return pack(KEPT, 1, torch.device("cpu"))


@pytest.fixture
def tokens(packing: Packing) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    rows = len(packing.rows)
    return torch.randn(rows, 32, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"init_values": 0.5},
        {"qk_norm": True},
        {"scale_attn_norm": True, "scale_mlp_norm": True},
    ],
)
def test_a_packed_block_is_timms_block_on_each_image(
    options: dict[str, Any], packing: Packing, tokens: Tensor
) -> None:
    timms = block(**options)
    expected = torch.cat([timms(part.unsqueeze(0))[0] for part in tokens.split(packing.lengths)])
    weights = torch.randn(expected.shape, dtype=torch.float64)
    gradients = torch.autograd.grad((expected * weights).sum(), [tokens, *timms.parameters()])
    found = packed_block(timms, tokens, packing)
    assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert_close(
        torch.autograd.grad((found * weights).sum(), [tokens, *timms.parameters()]),
        gradients,
        rtol=1e-10,
        atol=1e-10,
    )


def by_image(query: Tensor, key: Tensor, value: Tensor, *places: Any) -> Tensor:
    """Stand-in for `varlen_attn` that computes the same on the CPU."""
    starts, other, longest, largest = places
    assert starts is other
    assert starts.dtype == torch.int32
    assert longest == largest >= starts.diff().max()
    lengths = starts.diff().tolist()
    parts = zip(*(x.transpose(0, 1).split(lengths, 1) for x in (query, key, value)), strict=True)
    attended = [scaled_dot_product_attention(*(p.unsqueeze(0) for p in part)) for part in parts]
    return torch.cat(attended, dim=2).squeeze(0).transpose(0, 1)


def test_one_call_attends_within_all_images(
    packing: Packing, tokens: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU, whose kernel is replaced: it needs one."""
    calls = []

    def called(*given: Any) -> Tensor:
        calls.append(given)
        return by_image(*given)

    timms = block(qk_norm=True)
    expected = packed_block(timms, tokens, packing)
    monkeypatch.setattr(packed, "_fits_flash", lambda value: True)
    monkeypatch.setattr(packed, "varlen_attn", called)
    assert_close(packed_block(timms, tokens, packing), expected, rtol=1e-10, atol=1e-10)
    assert len(calls) == 1


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_on_a_gpu_the_kernel_is_flash_attention(
    dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    timms, places = block(qk_norm=True).float().cuda(), pack(KEPT, 1, torch.device("cuda"))
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randn(len(places.rows), 32, generator=generator).cuda().requires_grad_()

    def both() -> list[Tensor]:
        with torch.autocast("cuda", dtype):
            found = packed_block(timms, tokens, places)
        return [found, *torch.autograd.grad(found.square().sum(), [tokens, *timms.parameters()])]

    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        found = both()
        torch.cuda.synchronize()
    kernels = [event.key for event in profile.key_averages()]
    assert sum("flash_fwd" in name for name in kernels) == 1
    assert any("flash_bwd" in name for name in kernels)
    monkeypatch.setattr(packed, "_fits_flash", lambda value: False)
    for one, other in zip(found, both(), strict=True):
        assert (one - other).norm() <= 0.02 * other.norm()


def test_stochastic_depth_drops_whole_images(packing: Packing, tokens: Tensor) -> None:
    """Each branch of each image is kept and doubled, or dropped, at a rate of one half."""
    timms = block(drop_path_rate=0.5)
    torch.manual_seed(3)
    outcomes = set()
    plain = timms.eval()
    whole = [part.unsqueeze(0) for part in tokens.split(packing.lengths)]
    attended = [2 * plain.attn(plain.norm1(part)) for part in whole]
    for _ in range(20):
        timms.train()
        found = packed_block(timms, tokens, packing).split(packing.lengths)
        timms.eval()
        for image, part in enumerate(found):
            choices = []
            for first in (0, 1):
                middle = whole[image] + first * attended[image]
                for second in (0, 1):
                    result = middle + second * 2 * plain.mlp(plain.norm2(middle))
                    choices.append(torch.allclose(part, result[0]))
            assert sum(choices) == 1
            outcomes.add((image, choices.index(True)))
    assert len(outcomes) > 9  # of three images times four choices


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("vit_base_patch16_xp_224", "ParallelScalingBlock, NoneType"),
        ("vit_base_patch16_rpn_224", "ResPostBlock, Attention"),
        ("vit_dlittle_patch16_reg1_gap_256", "Block, DiffAttention"),
    ],
)
def test_other_blocks_are_refused(name: str, kinds: str) -> None:
    model = timm.create_model(name, depth=1, embed_dim=32, num_heads=2)
    with pytest.raises(ModelError) as error:
        check_packable(model, f"image.tower {name}")
    assert str(error.value) == (
        f"image.tower {name}: has blocks that cannot skip background ({kinds}). "
        "Set image.tokens: all"
    )
