"""Checks that a tokeniser knows report words; without a vocabulary all reports look alike."""

import re
from collections.abc import Iterable
from typing import Any

from mama.errors import ModelError
from mama.system.formats import percent
from mama.towers.locate import MAPPED

SAMPLE = (
    "There is no mass, suspicious calcification or architectural distortion in the left breast.",
    "The breasts are heterogeneously dense, which may obscure small masses.",
    "Spiculated mass in the upper outer quadrant of the right breast.",
    "Scattered benign calcifications on both sides, unchanged since the last examination.",
    "no mass. the breast is dense.",
)
MANY = 0.05  # share of unknown words above which to warn
_WORD = re.compile(r"[^\W\d_]+")


def unknown_words(tokeniser: Any, sentences: Iterable[str]) -> tuple[int, int]:
    """Count the unknown words and all words of the sentences.

    A word is known if it has tokens and none of them is special.
    """
    special = set(tokeniser.all_special_ids)
    words = [word for sentence in sentences for word in _WORD.findall(sentence)]
    known = {word: _known(tokeniser, word, special) for word in set(words)}
    return sum(not known[word] for word in words), len(words)


def remark_on_words(tokeniser: Any, sentences: Iterable[str]) -> str | None:
    """Return a warning if the share of unknown words exceeds MANY, else None."""
    unknown, words = unknown_words(tokeniser, sentences)
    if not words or unknown <= MANY * words:
        return None
    return (
        f"the text tower's tokeniser does not know {percent(unknown / words)} of the reports' words"
    )


def require_words(tokeniser: Any, where: str) -> None:
    """Refuse a tokeniser that knows no word of a sample of reports.

    Raises:
        ModelError: the tokeniser knows no word, or raises an error.
    """
    try:
        unknown, words = unknown_words(tokeniser, SAMPLE)
    except Exception as error:
        raise ModelError(
            f"its tokeniser fails ({type(error).__name__}: {brief(error)})",
            where=where,
            fix=f"Specify a folder with the model's own tokeniser {MAPPED}",
        ) from None
    if unknown == words:
        raise ModelError(
            "its tokeniser does not know a single word of a report",
            where=where,
            fix="Copy the model's tokeniser files (tokenizer.json, or vocab.txt etc.) "
            "into its folder",
        )


def require_rows(tokeniser: Any, rows: int, used: set[int | None], where: str) -> None:
    """Refuse a tokeniser with token ids beyond the embedding table.

    Args:
        tokeniser: a transformers tokeniser.
        rows: number of rows of the embeddings.
        used: ids of the start token and the separator; a padding token that is neither is never
            embedded.
        where: the model's place in error messages.

    Raises:
        ModelError: there are such tokens; the message names the first.
    """
    padding = {tokeniser.pad_token_id} - used
    beyond = sorted(
        (number, token)
        for token, number in tokeniser.get_vocab().items()
        if number >= rows and number not in padding
    )
    if beyond:
        number, token = beyond[0]
        raise ModelError(
            f"its tokeniser has {len(beyond)} tokens beyond the {rows} rows of its embeddings, "
            f"the first is {token!r} ({number})",
            where=where,
            fix="Copy the model's own tokeniser into its folder, "
            "or save the model with resized embeddings",
        )


def brief(error: Exception) -> str:
    """Return an error's text on one line, cut to 160 characters."""
    return " ".join(str(error).split())[:160]


def _known(tokeniser: Any, word: str, special: set[int]) -> bool:
    ids = tokeniser(word, add_special_tokens=False)["input_ids"]
    return bool(ids) and special.isdisjoint(ids)
