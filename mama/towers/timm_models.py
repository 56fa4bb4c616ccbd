"""Loader of timm models: built by name, with weights from a file, a folder or the hub."""

from pathlib import Path
from typing import Any

import timm
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mama.config import ImageTowerConfig
from mama.errors import ModelError
from mama.towers.checks.loaded import require_finite
from mama.towers.fixed_norm import fix_norms, has_batch_norm
from mama.towers.locate import MAPPED, refuse_adapter, refuse_code

WEIGHTS = "model.safetensors"
# Parts of the classifier after the features; a tower does not use them, so they would never train.
CLASSIFIER = ("attn_pool", "fc_norm", "head")


def create(config: ImageTowerConfig, weights: Path | None) -> Any:
    """Build the experiment's timm model for one-channel images, without its classifier.

    If `pretrained`, the weights come from `weights`, a safetensors file or a folder with
    `model.safetensors`, else from the hub. timm resamples position embeddings to the grid and sums
    the filters of three input channels.

    Raises:
        ModelError: timm has no such model, the options or weights do not fit it, the weights are
            unavailable or not finite, or the model keeps running statistics and is not frozen.
    """
    options: dict[str, Any] = dict(config.options)
    where = f"image.tower {config.tower}"
    if config.pretrained and weights is not None:
        # With num_classes=0 timm loads strictly, so that a file of another model is rejected.
        state = _without_classifier(_read(config.tower, weights), config.tower)
        options["pretrained_cfg_overlay"] = {"state_dict": state, "num_classes": 0}
    model = _build(config, options)
    model.pretrained_cfg.pop("state_dict", None)
    if config.pretrained:
        require_finite(model.state_dict().items(), where)
    if has_batch_norm(model):
        if config.trained_blocks != 0 and config.lora is None:
            raise ModelError(
                "keeps running statistics (BatchNorm), which are neither averaged nor private",
                where=where,
                fix="Choose a tower with LayerNorm or GroupNorm, "
                "or freeze it with image.trained_blocks: 0",
            )
        fix_norms(model)
    for part in CLASSIFIER:
        if isinstance(getattr(model, part, None), nn.Module):
            setattr(model, part, nn.Identity())
    return model


def _build(config: ImageTowerConfig, options: dict[str, Any]) -> Any:
    where = f"image.tower {config.tower}"
    settings = {"pretrained": config.pretrained, "in_chans": 1, "num_classes": 0, **options}
    try:
        try:
            # Transformers are built for one image size; other models lack the option.
            return timm.create_model(config.tower, img_size=config.size, **settings)
        except TypeError as error:
            if "img_size" not in str(error):
                raise
            return timm.create_model(config.tower, **settings)
    except OSError as error:
        raise ModelError(
            f"its weights cannot be downloaded from the hub ({type(error).__name__})",
            where=where,
            fix=f"Without network, specify a safetensors file {MAPPED} "
            "(HF_HUB_OFFLINE=1 avoids the hub's retries)",
        ) from None
    except Exception as error:
        message = " ".join(str(error).split())[:160]
        if "state_dict" in message:
            raise ModelError(
                f"its weights file belongs to another model ({message})",
                where=where,
                fix=f"Specify the model's own weights {MAPPED}",
            ) from None
        if isinstance(error, AssertionError) and not message:
            # timm's assertion that patches divide the stem's feature map has no message.
            raise ModelError(
                f"its patches do not divide images of {config.size[0]} x {config.size[1]} pixels",
                where=f"image.size for {config.tower}",
                fix="Choose multiples of the stem's stride times patch_size, such as 32, 64 or 96",
            ) from None
        raise ModelError(
            f"timm cannot build it ({type(error).__name__}: {message})",
            where=where,
            fix="Choose a name from timm.list_models() and options that the model supports",
        ) from None


def _read(tower: str, path: Path) -> dict[str, Tensor]:
    where = f"{tower} ({path})"
    refuse_code(path)
    refuse_adapter(path)
    file = path / WEIGHTS if path.is_dir() else path
    try:
        return load_file(file)
    except (OSError, SafetensorError):
        raise ModelError(
            "is not a safetensors file" if file == path else f"contains no {WEIGHTS}",
            where=where,
            fix=f"Specify a safetensors file, or a folder with {WEIGHTS}, {MAPPED}",
        ) from None


def _without_classifier(state: dict[str, Tensor], tower: str) -> dict[str, Tensor]:
    known = timm.get_pretrained_cfg(tower, allow_unregistered=True)
    names = known.classifier if known and known.classifier else ()
    prefixes = tuple(f"{name}." for name in ([names] if isinstance(names, str) else names))
    return {name: value for name, value in state.items() if not name.startswith(prefixes)}
