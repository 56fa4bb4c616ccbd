"""Checks that a base model is the one in its file: every tensor read from there, every value a number."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mama.errors import ModelError
from mama.towers.base import MAPPED

logger = logging.getLogger("fedmama.model")

# Positions and masks that older versions of transformers stored, and the pooler that no tower uses.
CONSTANTS = ("position_ids", "token_type_ids", ".bias_mask", "masked_bias", "attn.bias", "inv_freq")
UNUSED = ("pooler",)


def shared_prefix(model: nn.Module, info: dict[str, Any], where: str) -> str | None:
    """The prefix that the file puts before all tensors of a model; None where some were found without, or it has none.

    Raises:
        ModelError: there are several, so the file holds several models.
    """
    missing, unused = set(info["missing_keys"]), info["unexpected_keys"]
    if not missing.issuperset(name for name, _ in model.named_parameters()):
        return None
    # Some names are no longer in the table of unused ones, so the prefix is that of the most.
    found = Counter(
        name[:start] for name in unused for start in _after_dots(name) if name[start:] in missing
    ).most_common(2)
    if len(found) == 2 and found[0][1] == found[1][1]:
        raise ModelError(
            f"its file holds several such models: {', '.join(sorted(p for p, _ in found))}",
            where=where,
            fix="Save the wanted one to a file of its own",
        )
    return found[0][0] if found else None


def require_loaded(model: Any, info: dict[str, Any], layers: int | None, where: str) -> None:
    """Refuse a transformers model of which a tensor is not the file's; name in the log what was left out.

    Args:
        info: what `from_pretrained` tells of its loading.
        layers: the experiment's, above which the file's layers have no use.

    Raises:
        ModelError: a tensor is missing or has another shape, or the file holds adapters.
    """
    missing, unused = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    own = f"Name a folder with the model's own weights {MAPPED}"
    if missing:
        raise ModelError(
            f"its file lacks {missing[0]} and in all {len(missing)} of {len(model.state_dict())} tensors",
            where=where,
            fix=own,
        )
    if mismatched := sorted(str(entry) for entry in info.get("mismatched_keys", ())):
        raise ModelError(f"a tensor has another shape: {mismatched[0]}", where=where, fix=own)
    if adapters := [name for name in unused if "lora_" in name or ".adapters." in name]:
        raise ModelError(
            f"its file holds adapters that are not merged into the weights ({adapters[0]})",
            where=where,
            fix="Merge them (PEFT: merge_and_unload) and save the model again",
        )
    left = [name for name in unused if layers is None and _of_the_model(name, model)]
    if left:
        logger.warning(
            "%s: %d tensors of its file have no place in the model, the first is %s",
            where,
            len(left),
            left[0],
        )


@torch.no_grad()
def require_finite(tensors: Iterable[tuple[str, Tensor]], where: str) -> None:
    """Refuse weights, given by name, that hold a value that is not a number.

    Raises:
        ModelError: names the first such tensor.
    """
    for name, tensor in tensors:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"its tensor {name} is not finite", where=where, fix="Take the weights again"
            )


def _of_the_model(name: str, model: nn.Module) -> bool:
    """True of a name under one of the model's parts, in contrast to a task head beside it."""
    if name.endswith(CONSTANTS):
        return False
    base = getattr(model, "base_model_prefix", "")
    parts = name.removeprefix(f"{base}.").split(".")
    return parts[0] not in UNUSED and parts[0] in dict(model.named_children())


def _after_dots(name: str) -> Iterator[int]:
    return (place + 1 for place, character in enumerate(name) if character == ".")
