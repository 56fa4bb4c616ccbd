"""Checks that a base model was read from its file: no tensor missing, no value non-finite."""

import logging
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from mama.errors import ModelError
from mama.towers.locate import MAPPED

logger = logging.getLogger("fedmama.model")

# Position ids and masks that older versions of transformers stored.
CONSTANTS = ("position_ids", "token_type_ids", ".bias_mask", "masked_bias", "attn.bias", "inv_freq")
UNUSED = ("pooler",)  # no tower uses it


def shared_prefix(model: nn.Module, info: dict[str, Any], where: str) -> str | None:
    """Return the prefix of all of a model's tensor names in the file.

    None if some tensors were found without a prefix, or if there is none.

    Raises:
        ModelError: there are several prefixes, so the file holds several models.
    """
    missing, unused = set(info["missing_keys"]), info["unexpected_keys"]
    if not missing.issuperset(name for name, _ in model.named_parameters()):
        return None
    # transformers drops some names from the unexpected keys, so the most frequent prefix counts.
    found = Counter(
        name[:start] for name in unused for start in _after_dots(name) if name[start:] in missing
    ).most_common(2)
    if len(found) == 2 and found[0][1] == found[1][1]:
        raise ModelError(
            f"its file holds several such models: {', '.join(sorted(p for p, _ in found))}",
            where=where,
            fix="Save the one you need to a separate file",
        )
    return found[0][0] if found else None


def require_loaded(model: Any, info: dict[str, Any], layers: int | None, where: str) -> None:
    """Refuse a transformers model with a tensor that is not from its file; log unused tensors.

    Args:
        model: the loaded model.
        info: loading info of `from_pretrained`.
        layers: the experiment's number of layers; further layers of the file are ignored.
        where: the model's place in error messages.

    Raises:
        ModelError: a tensor is missing or has another shape, or the file holds adapters.
    """
    missing, unused = sorted(info["missing_keys"]), sorted(info["unexpected_keys"])
    fix = f"Specify a folder with the model's own weights {MAPPED}"
    if missing:
        raise ModelError(
            f"its file lacks {len(missing)} of {len(model.state_dict())} tensors, "
            f"the first is {missing[0]}",
            where=where,
            fix=fix,
        )
    if mismatched := sorted(str(entry) for entry in info.get("mismatched_keys", ())):
        raise ModelError(f"a tensor has the wrong shape: {mismatched[0]}", where=where, fix=fix)
    if adapters := [name for name in unused if "lora_" in name or ".adapters." in name]:
        raise ModelError(
            f"its file holds adapters that were not merged into the weights ({adapters[0]})",
            where=where,
            fix="Merge them (PEFT: merge_and_unload) and save the model again",
        )
    ignored = [name for name in unused if layers is None and _belongs_to(name, model)]
    if ignored:
        logger.warning(
            "%s: %d tensors of its file do not belong to the model, the first is %s",
            where,
            len(ignored),
            ignored[0],
        )


@torch.no_grad()
def require_finite(tensors: Iterable[tuple[str, Tensor]], where: str) -> None:
    """Refuse named weights with NaN or infinite values.

    Raises:
        ModelError: a tensor is not finite; the message names it.
    """
    for name, tensor in tensors:
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ModelError(
                f"its tensor {name} is not finite", where=where, fix="Download the weights again"
            )


def _belongs_to(name: str, model: nn.Module) -> bool:
    """Return whether the tensor belongs to the model, as opposed to a task head."""
    if name.endswith(CONSTANTS):
        return False
    base = getattr(model, "base_model_prefix", "")
    parts = name.removeprefix(f"{base}.").split(".")
    return parts[0] not in UNUSED and parts[0] in dict(model.named_children())


def _after_dots(name: str) -> Iterator[int]:
    return (index + 1 for index, character in enumerate(name) if character == ".")
