"""The text tower as a folder that transformers loads: `AutoModel.from_pretrained(FOLDER)`."""

import copy
from pathlib import Path
from typing import Any

import torch

from mama.final.merged import merged
from mama.system.files import private_folder
from mama.towers.text import TextTower

SEPARATOR, START = "<end_of_sentence>", "<start_of_report>"


def write_transformers_folder(tower: TextTower, folder: Path) -> dict[str, Any]:
    """Write configuration, weights and tokeniser of a text tower, with adapters merged.

    The trained vectors of the special tokens become rows of the embedding table. Where the base
    model has no such token, or one for both, the table and the tokeniser get a new one.

    Returns:
        The layout of a report's tokens: `start` and `separator`, their names, and `max_tokens`.
    """
    backbone, tokeniser = merged(tower.backbone), copy.deepcopy(tower.tokeniser)
    ids = tower.special_ids
    both = ids.separator == ids.start and ids.start is not None
    names = {}
    for key, vector, own, new in (
        ("start", tower.start, ids.start, START),
        ("separator", tower.separator, ids.separator, SEPARATOR),
    ):
        if own is None or both:
            tokeniser.add_tokens([new], special_tokens=True)
            token = int(tokeniser.convert_tokens_to_ids(new))
        else:
            token = own
        names[key] = tokeniser.convert_ids_to_tokens(token)
        if vector is not None:
            _set_row(backbone, token, own, vector.detach().cpu())
    private_folder(folder)
    backbone.save_pretrained(folder)
    tokeniser.save_pretrained(folder)
    return {**names, "max_tokens": tower.config.max_tokens}


@torch.no_grad()
def _set_row(backbone: Any, token: int, base: int | None, vector: torch.Tensor) -> None:
    """Add the vector to the row of `base`, if any, and store it as that of `token`."""
    if token >= len(backbone.get_input_embeddings().weight):
        backbone.resize_token_embeddings(token + 1, mean_resizing=False)
    rows = backbone.get_input_embeddings().weight
    rows[token] = vector if base is None else rows[base] + vector
