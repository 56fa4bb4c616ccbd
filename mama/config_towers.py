"""The towers of an experiment: which model, how large, and which of its weights are trained."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from mama.section import Fraction, Section

# Options that change a tower's shape, with their least and largest values. Others of timm's
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
    """Refuse options that could read files, or whose size alone would take a machine's memory and time."""
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

    `targets` null are the attention projections that PEFT knows for the architecture.
    """

    rank: int = Field(8, ge=1, le=256)
    """Rank of the adapters."""
    alpha: int = Field(32, ge=1, le=1024)
    """Scale of the adapters, divided by their rank."""
    dropout: Fraction = 0.1
    """Dropout before the adapters."""
    targets: LayerNames | None = None
    """Endings of layers' names; null takes the attention projections."""


class ImageTowerConfig(Section):
    """A timm model. `size` is (height, width) in pixels of the canvas that holds the breast.

    `layout`: `native` keeps the breast's aspect ratio on the canvas, `square` stretches the breast over it
    (paper). `tokens`: `tissue` computes only on the patches that hold breast, `all` on every patch.
    `trained`: all weights, only the last so many blocks, or, with `lora`, the adapters alone.
    """

    tower: ModelName
    """A timm model's name."""
    size: tuple[Annotated[int, Field(ge=16, le=4096)], Annotated[int, Field(ge=16, le=4096)]]
    """Height and width in pixels of the canvas that holds the breast."""
    options: Options = {}
    """Options of the architecture: patch_size, embed_dim, depth, num_heads and others."""
    pretrained: bool = False
    """Start from the base model's weights."""
    pooling: Literal["mean", "mean_max"] = "mean"
    """The image's feature: mean of its tokens, or mean and maximum."""
    layout: Literal["native", "square"] = "native"
    """Native keeps the breast's aspect ratio, square stretches it (paper)."""
    tokens: Literal["tissue", "all"] = "tissue"
    """Tissue computes only on patches that hold breast."""
    trained_blocks: int | None = Field(None, ge=0, le=1000)
    """Train only the last so many blocks; null trains all."""
    lora: LoraConfig | None = None
    """Train adapters alone; null none."""

    @model_validator(mode="after")
    def _one_way_to_train_less(self) -> "ImageTowerConfig":
        if self.lora is not None and self.trained_blocks is not None:
            raise ValueError("image.lora and image.trained_blocks exclude each other")
        return self


class TextTowerConfig(Section):
    """A transformers encoder or causal model. `layers` keeps only the first so many; null keeps all.

    `sentences`: a sentence's feature is the state at its `separator` (paper) or the `mean` over its tokens.
    `base_bits`: 8 or 4 hold the frozen base weights quantised, where bitsandbytes is installed.
    """

    tower: ModelName
    """A transformers model's name."""
    layers: int | None = Field(None, ge=1, le=200)
    """Keep only the first so many layers; null keeps all."""
    max_tokens: int = Field(64, ge=8, le=4096)
    """Longest report in tokens; what is longer is cut."""
    sentences: Literal["separator", "mean"] = "separator"
    """A sentence's feature: at its separator (paper), or the mean over its tokens."""
    base_bits: Literal[4, 8] | None = None
    """Hold the frozen weights in 8 or 4 bits; null as they are."""
    lora: LoraConfig = LoraConfig()
    """The adapters that are trained."""
