"""Image tower: timm's own features, on tissue alone; unusable models are refused in one line."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from timm.layers import PatchEmbed
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from mama.config import ImageTowerConfig
from mama.errors import ModelError
from mama.towers import image as image_module
from mama.towers.image import ImageFeatures, ImageTower
from mama.towers.tissue import Packing, pack

SIZE = (32, 48)
NARROW = {"patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 2}
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
TRANSFORMERS = [  # name, options, prefix tokens, patches
    ("vit_tiny_r_s16_p8_224", NARROW | {"patch_size": 2}, 1, 24),  # on a stem of stride 4
    ("vit_tiny_patch16_224", NARROW, 1, 24),
    ("vit_medium_patch16_gap_240", NARROW, 0, 24),  # no class token
    ("vit_medium_patch16_reg4_gap_256", NARROW, 4, 24),  # four registers
    ("vit_small_patch14_reg4_dinov2", NARROW, 5, 24),  # the paper's kind: no position for registers
    ("vit_base_patch16_clip_224", NARROW, 1, 24),  # a norm before the blocks
    ("deit_tiny_distilled_patch16_224", NARROW, 2, 24),
    ("test_vit2", {}, 1, 6),
]
OTHERS = [  # transformers of timm that are no VisionTransformer: name, options, prefix tokens
    ("vit_small_patch16_dinov3", NARROW, 5),
    ("eva02_tiny_patch14_224", NARROW, 1),
    ("beit_base_patch16_224", NARROW, 1),
    ("vit_relpos_small_patch16_224", NARROW, 0),
]
CONVOLUTIONAL = ["test_convnext", "test_nfnet", "test_efficientnet_gn"]


def config(name: str, options: dict[str, Any] | None = None, **others: Any) -> ImageTowerConfig:
    return ImageTowerConfig.model_validate(
        {"tower": name, "size": SIZE, "options": options or {}} | others
    )


def tower(name: str, options: dict[str, Any] | None = None, **others: Any) -> ImageTower:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ImageTower(config(name, options, **others)).eval()


def breasts(*widths: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Noise on the left `widths` columns of each image, and background on the others."""
    noise = torch.rand(len(widths), 1, *size, generator=torch.Generator().manual_seed(1))
    place = torch.arange(size[1]) < torch.tensor(widths)[:, None, None, None]
    return torch.where(place, 1.9 * noise - 0.9, -1.0)


def loss(features: ImageFeatures) -> Tensor:
    return features.pooled.pow(3).sum() + features.patches.pow(3).mean()


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 1, *SIZE, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("tokens", ["tissue", "all"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("name", "options", "prefix", "patches"), TRANSFORMERS)
def test_a_vision_transformer_is_timms_where_every_token_is_kept(
    name: str, options: dict[str, Any], prefix: int, patches: int, dtype: torch.dtype, tokens: str
) -> None:
    """`pooled` is the mean over all tokens before the final norm, `patches` the tokens after it."""
    built, images = tower(name, options, tokens=tokens).to(dtype), breasts(48, 48).to(dtype)
    seen: list[Tensor] = []
    hook = built.model.blocks[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    timms = built.model.forward_features(images)
    hook.remove()
    assert timms.shape[1] == prefix + patches
    expected = ImageFeatures(seen[0].mean(1), timms[:, prefix:].flatten(0, 1), torch.tensor(0))
    found = built(images)
    tight = {"rtol": 1e-10, "atol": 1e-10} if dtype == torch.float64 else {}
    assert found.counts.tolist() == [patches, patches]
    assert_close(found[:2], expected[:2], **tight)
    assert found.pooled.std() > 1e-3  # not a constant

    weights = [parameter for parameter in built.model.parameters()]
    want = torch.autograd.grad(loss(expected), weights)
    got = torch.autograd.grad(loss(found), weights)
    for one, other in zip(got, want, strict=True):
        assert_close(
            one, other, **(tight or {"rtol": 1e-3, "atol": 1e-3 * float(other.abs().max())})
        )


@pytest.mark.parametrize(("name", "options", "prefix"), OTHERS)
def test_other_transformers_serve_all_tokens(
    name: str, options: dict[str, Any], prefix: int, images: Tensor
) -> None:
    built = tower(name, options, tokens="all").double()
    seen: list[Tensor] = []
    hook = built.model.blocks[-1].register_forward_hook(lambda *call: seen.append(call[2]))
    timms = built.model.forward_features(images.double())
    hook.remove()
    found = built(images.double())
    assert built.grid == (4, 6)
    assert timms.shape == (2, prefix + 24, 32)
    assert found.counts.tolist() == [24, 24]
    assert_close(found.patches, timms[:, prefix:].flatten(0, 1), rtol=1e-10, atol=1e-10)
    assert_close(found.pooled, seen[0].mean(1), rtol=1e-10, atol=1e-10)
    loss(found).backward()
    built.set_checkpointing(True)
    plain = [parameter.grad.clone() for parameter in built.parameters()]
    built.zero_grad()
    loss(built(images.double())).backward()
    assert_close([p.grad for p in built.parameters()], plain, rtol=1e-10, atol=1e-10)
    with pytest.raises(ModelError, match=r"cannot skip background.*image\.tokens: all"):
        tower(name, options)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("name", "options", "prefix", "patches"), TRANSFORMERS)
def test_tissue_tokens_are_timms_blocks_on_the_tokens_of_tissue(
    name: str, options: dict[str, Any], prefix: int, patches: int, device: str
) -> None:
    """The tokens keep the positions they have on the whole canvas."""
    built = tower(name, options, pooling="mean_max").to(device)
    images = breasts(17, 48).to(device)
    columns = built.grid[1]
    vit, side = built.model, SIZE[1] // columns
    kept = [-(-17 // side), columns]  # columns of patches
    found = built(images)
    assert found.counts.tolist() == [built.grid[0] * n for n in kept]
    assert found.counts.device.type == "cpu"
    offset = 0
    for number, width in enumerate(kept):
        embedded = vit._pos_embed(vit.patch_embed(images[number : number + 1]))
        places = torch.arange(patches).reshape(built.grid)[:, :width].flatten()
        rows = torch.cat([torch.arange(prefix), prefix + places]).to(device)
        tokens = vit.blocks(vit.norm_pre(embedded[:, rows]))
        own = found.patches[offset : offset + len(places)]
        assert_close(own, vit.norm(tokens)[0, prefix:])
        parts = torch.stack([tokens.mean(1), tokens.amax(1)])
        centred = parts - parts.mean(2, keepdim=True)
        standard = centred / (centred.pow(2).mean(2, keepdim=True) + 1e-5).sqrt()
        assert_close(found.pooled[number], standard.flatten(), rtol=1e-4, atol=1e-4)
        offset += len(places)
    assert offset == len(found.patches)


@pytest.fixture(scope="module")
def small() -> ImageTower:
    return tower("vit_tiny_patch16_224", NARROW, pooling="mean_max").double()


@given(widths=st.lists(st.integers(0, 48), min_size=1, max_size=4), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_an_image_does_not_depend_on_the_others_of_its_batch(
    small: ImageTower, widths: list[int], seed: int
) -> None:
    images = breasts(*widths).double()
    order = torch.randperm(len(widths), generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        alone = [small(images[number : number + 1]) for number in range(len(widths))]
        together = small(images[order])
    parts = together.patches.split(together.counts.tolist())
    for place, number in enumerate(order.tolist()):
        assert_close(together.pooled[place], alone[number].pooled[0], rtol=1e-10, atol=1e-10)
        assert_close(parts[place], alone[number].patches, rtol=1e-10, atol=1e-10)


def test_background_outside_the_kept_patches_is_not_seen(small: ImageTower) -> None:
    """With all tokens the empty patches take part; with tissue alone they cannot."""
    everything = tower("vit_tiny_patch16_224", NARROW, pooling="mean_max", tokens="all").double()
    images = breasts(17, 48).double()
    found, dense = small(images), everything(images)
    assert dense.counts.tolist() == [24, 24]
    assert_close(found.pooled[1], dense.pooled[1])
    assert (found.pooled[0] - dense.pooled[0]).abs().max() > 0.01


@pytest.mark.parametrize("name", ["vit_tiny_patch16_224", "test_convnext"])
def test_an_image_without_tissue_keeps_all_its_tokens(name: str) -> None:
    options = NARROW if "vit" in name else {}
    size = (64, 96)
    images = breasts(0, 40, size=size)
    built = tower(name, options, size=size)
    assert built(images).counts[0] == built.grid[0] * built.grid[1]
    everything = tower(name, options, size=size, tokens="all")
    assert_close(built(images).pooled[0], everything(images).pooled[0])


@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_a_feature_map_is_read_row_by_row_where_there_is_tissue(name: str) -> None:
    built = tower(name, size=(64, 96), pooling="mean_max")
    images = breasts(96, 40, size=(64, 96))
    found, expected = built(images), built.model.forward_features(images)
    assert expected.shape[2:] == built.grid == (2, 3)
    assert found.counts.tolist() == [6, 4]
    cells = [(0, y, x) for y in (0, 1) for x in (0, 1, 2)]
    cells += [(1, y, x) for y in (0, 1) for x in (0, 1)]
    rows = torch.stack([expected[n, :, y, x] for n, y, x in cells])
    assert_close(found.patches, rows)
    width = expected.shape[1]
    for number, own in enumerate((rows[:6], rows[6:])):
        mean = torch.nn.functional.layer_norm(own.mean(0), (width,))
        largest = torch.nn.functional.layer_norm(own.amax(0), (width,))
        assert_close(found.pooled[number], torch.cat([mean, largest]), rtol=1e-4, atol=1e-4)


def test_widths_are_those_of_the_features(images: Tensor) -> None:
    built = tower("vit_tiny_patch16_224", NARROW, pooling="mean_max")
    found = built(images)
    assert (built.pooled_width, built.patch_width) == (64, 32)
    assert (found.pooled.shape[1], found.patches.shape[1]) == (64, 32)


def test_a_new_tower_is_in_training_mode() -> None:
    assert all(module.training for module in ImageTower(config("test_convnext")).modules())


@pytest.mark.parametrize("tokens", ["tissue", "all"])
@pytest.mark.parametrize("name", ["vit_tiny_r_s16_p8_224", "vit_tiny_patch16_224", "test_convnext"])
def test_checkpointing_changes_no_gradient(name: str, tokens: str) -> None:
    """Dropped paths are drawn again as they were."""
    options: dict[str, Any] = {"drop_path_rate": 0.5}
    if "vit" in name:
        options |= NARROW | {"patch_size": 2 if "_r_" in name else 8}
    built = tower(name, options, size=(64, 96), tokens=tokens).train().double()
    images = breasts(96, 40, 60, size=(64, 96)).double()

    def gradients() -> Iterator[Tensor]:
        built.zero_grad()
        torch.manual_seed(5)
        loss(built(images)).backward()
        return (parameter.grad.clone() for parameter in built.parameters())

    first = next(m for name, m in built.named_modules() if "blocks.0.norm" in name)
    passes: list[Tensor] = []
    first.register_forward_hook(lambda *call: passes.append(call[2]))
    plain = list(gradients())
    assert len(passes) == 1
    built.set_checkpointing(True)
    assert_close(list(gradients()), plain, rtol=1e-10, atol=1e-10)
    assert len(passes) == 3  # computed again in the backward pass
    built.set_checkpointing(False)
    list(gradients())
    assert len(passes) == 4


@pytest.mark.parametrize("tokens", ["tissue", "all"])
@pytest.mark.parametrize(
    ("name", "options", "prefix", "patches"), [*TRANSFORMERS, ("test_convnext", {}, 0, 1)]
)
def test_the_forward_stays_on_one_device(
    name: str,
    options: dict[str, Any],
    prefix: int,
    patches: int,
    tokens: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a fake GPU, a tensor left on the CPU raises.

    The packing is precomputed, because fake images have no pixels.
    """
    built = tower(name, options, tokens=tokens, pooling="mean_max")
    weights = built.state_dict()
    kept = torch.arange(patches) < torch.tensor([[1 if tokens == "tissue" else patches], [patches]])
    packing = pack(kept, prefix, torch.device("cpu"))
    with FakeTensorMode() as mode:
        gpu = {name: mode.from_tensor(value).to("cuda") for name, value in weights.items()}
        places = [mode.from_tensor(part).to("cuda") for part in packing[:4]]
        precomputed = Packing(*places, *packing[4:])
        monkeypatch.setattr(image_module, "pack", lambda kept, prefix, device: precomputed)
        images = torch.empty(2, 1, *SIZE, device="cuda")
        found = torch.func.functional_call(built, gpu, (images, torch.empty(0)))
    assert found.pooled.device.type == found.patches.device.type == "cuda"
    assert found.pooled.shape == (2, built.pooled_width)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("no_such_tower", {}, "timm cannot build it (RuntimeError: Unknown model"),
        ("vit_tiny_patch16_224", {"dims": [1]}, "timm cannot build it (TypeError"),
        ("test_resnet", {}, "keeps running statistics (BatchNorm)"),
        ("test_efficientnet", {}, "keeps running statistics (BatchNorm)"),
        ("mixer_s32_224", {}, "has neither patch tokens nor a feature map"),
        ("vit_base_patch16_rpn_224", NARROW, "has blocks that cannot skip background"),
        (
            "vit_tiny_patch16_224",
            NARROW | {"patch_size": 64},
            "images of 32 x 48 pixels are smaller than a patch of 64 x 64",
        ),
        (
            "vit_tiny_patch16_224",
            NARROW | {"patch_size": 14},
            "patches of 14 x 14 pixels do not cover 32 x 48. "
            "Set image.size to multiples of the patch size, such as [28, 42]",
        ),
    ],
)
def test_towers_that_cannot_serve(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError) as error:
        ImageTower(config(name, options))
    assert str(error.value).startswith(f"image.tower {name}: {message}")
    assert "\n" not in str(error.value)
    assert error.value.fix


def test_an_image_smaller_than_the_stride_of_a_convolutional_tower() -> None:
    with pytest.raises(ModelError, match="cannot read images of 16 x 16 pixels"):
        ImageTower(config("test_convnext", size=(16, 16)))


def test_blocks_that_cannot_be_packed_serve_all_tokens(images: Tensor) -> None:
    built = tower("vit_base_patch16_rpn_224", NARROW, tokens="all")
    assert isinstance(built.model.patch_embed, PatchEmbed)
    assert_close(built(images).patches, built.model.forward_features(images).flatten(0, 1)[:])
