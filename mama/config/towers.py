"""Configuration of the towers: model, size and the weights that are trained."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mama.config.base import Fraction, Section

# Options that change a tower's shape, with their minimum and maximum. Other options of timm
# (checkpoint_path, pretrained_cfg) could read files.
TOWER_OPTIONS: dict[str, tuple[float, float]] = {
    "patch_size": (1, 64),
    "embed_dim": (1, 4096),
    "depth": (1, 100),
    "num_heads": (1, 64),
    "mlp_ratio": (0.1, 16),
    "init_values": (0, 10),
    "class_token": (0, 1),
    "reg_tokens": (0, 64),
    "no_embed_class": (0, 1),
    "drop_path_rate": (0, 0.99),
    "depths": (1, 100),
    "dims": (1, 4096),
}
MOST_STAGES = 8  # entries of `depths` and `dims`


def _model_name(value: str) -> str:
    parts = value.split("/")
    plain = all(part and part[0].isalnum() and ".." not in part for part in parts)
    if len(parts) > 2 or not plain or not all(c.isalnum() or c in "._-/" for c in value):
        raise ValueError("must be a model name such as 'name' or 'owner/name', never a path")
    return value


def _known_options(options: dict[str, float | int | bool | list[int]]) -> dict:
    """Reject options that could read files, and sizes that would exhaust time or memory."""
    unknown = sorted(set(options) - set(TOWER_OPTIONS))
    if unknown:
        raise ValueError(
            f"unknown option {unknown[0]!r}; allowed: {', '.join(sorted(TOWER_OPTIONS))}"
        )
    for name, value in options.items():
        entries = value if isinstance(value, list) else [value]
        least, most = TOWER_OPTIONS[name]
        if len(entries) > MOST_STAGES or not all(least <= entry <= most for entry in entries):
            raise ValueError(f"option {name} must lie between {least} and {most}")
    return options


ModelName = Annotated[str, Field(max_length=128), AfterValidator(_model_name)]
Options = Annotated[
    dict[str, bool | int | float | list[int]], Field(max_length=16), AfterValidator(_known_options)
]


LayerNames = Annotated[
    list[Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z0-9_.]+$")]],
    Field(min_length=1, max_length=16),
]


class LoraConfig(Section):
    """Low-rank adapters (Hu et al. 2021) on the linear layers whose names end in `targets`.

    If `targets` is null, PEFT's default attention projections for the architecture are used.
    """

    rank: int = Field(8, ge=1, le=256)
    """Rank of the adapters."""
    alpha: int = Field(32, ge=1, le=1024)
    """Scale of the adapters, divided by the rank."""
    dropout: Fraction = 0.1
    """Dropout rate before the adapters."""
    targets: LayerNames | None = None
    """Name endings of the adapted layers; null selects the attention projections."""


class ImageTowerConfig(Section):
    """Image tower from timm; `size` is (height, width) in pixels of the canvas with the breast.

    `layout`: `native` keeps the breast's aspect ratio on the canvas, `square` stretches the breast
    to fill it (paper). `tokens`: `tissue` computes only patches that contain breast, `all` every
    patch. All weights are trained, or only the last `trained_blocks`, or only the `lora` adapters.
    """

    tower: ModelName
    """Name of a timm model."""
    size: tuple[Annotated[int, Field(ge=16, le=4096)], Annotated[int, Field(ge=16, le=4096)]]
    """Height and width of the canvas in pixels."""
    options: Options = {}
    """Architecture options: patch_size, embed_dim, depth, num_heads and others."""
    pretrained: bool = False
    """Start from the weights of the base model."""
    pooling: Literal["mean", "mean_max"] = "mean"
    """Image feature: mean of the tokens, or mean and maximum."""
    layout: Literal["native", "square"] = "native"
    """Placement on the canvas: native keeps the aspect ratio, square stretches (paper)."""
    tokens: Literal["tissue", "all"] = "tissue"
    """Patches that are computed: those that contain tissue, or all."""
    trained_blocks: int | None = Field(None, ge=0, le=1000)
    """Number of last blocks that are trained; null trains all."""
    lora: LoraConfig | None = None
    """Train only adapters; null trains without adapters."""

    @model_validator(mode="after")
    def _one_way_to_train_less(self) -> "ImageTowerConfig":
        if self.lora is not None and self.trained_blocks is not None:
            raise ValueError("image.lora and image.trained_blocks exclude each other")
        return self


class TextTowerConfig(Section):
    """Text tower from transformers, an encoder or causal model.

    `layers` keeps only the first layers; null keeps all. `sentences`: the feature of a sentence is
    the state at its `separator` (paper) or the `mean` of its tokens. `base_bits` 8 or 4 holds the
    frozen base weights quantised, which requires bitsandbytes.
    """

    tower: ModelName
    """Name of a transformers model."""
    layers: int | None = Field(None, ge=1, le=200)
    """Number of first layers that are kept; null keeps all."""
    max_tokens: int = Field(64, ge=8, le=4096)
    """Longest report in tokens; longer reports are truncated."""
    sentences: Literal["separator", "mean"] = "separator"
    """Sentence feature: the state at its separator (paper), or the mean of its tokens."""
    base_bits: Literal[4, 8] | None = None
    """Bits of the frozen weights (requires bitsandbytes); null does not quantise."""
    lora: LoraConfig = LoraConfig()
    """Adapters that are trained."""
