"""Names, numbers, dates and addresses in a report: found by rules and replaced by neutral words.

The rules lean on the words around an identifier (configs/languages/identifiers.yaml): a title
before a name, a label before a number. A name without any such word is not found.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from mama.data.reports.identifier_rules import LEADING, Rule, ordinary, rules

Mode = Literal["redact", "refuse", "keep"]
_ROUNDS = 4  # a replacement may bring two parts of an identifier together
_WORD = re.compile(r"[^\W\d_][\w'’.-]*")
_MOST_NAMES = 4


@dataclass(frozen=True)
class Redacted:
    """A report's text without identifiers.

    `counts` is the number of identifiers by rule; `refused` says that the report may not be used,
    and then `text` is empty.
    """

    text: str
    counts: dict[str, int] = field(default_factory=dict)
    refused: bool = False


def redact(text: str, mode: Mode = "redact", language: str | None = None) -> Redacted:
    """Replace the identifiers of a text, as plain as `formats.plain` returns it.

    Args:
        text: text of a report.
        mode: redact replaces identifiers, refuse gives up a report that holds any, and keep
            returns the text as it is, with the counts.
        language: code of its language, whose words are no names; None if unknown.
    """
    counts: Counter[str] = Counter()
    clean = text
    for _ in range(_ROUNDS):
        before = clean
        for rule in rules(language):
            clean = rule.pattern.sub(_replacing(rule, counts, ordinary(language)), clean)
        if clean == before:
            break
    if mode == "refuse" and counts:
        return Redacted("", dict(counts), refused=True)
    return Redacted(text if mode == "keep" else clean, dict(counts))


def _replacing(
    rule: Rule, counts: Counter[str], common: frozenset[str]
) -> Callable[[re.Match[str]], str]:
    """Return a function that replaces a rule's group `x` and counts it."""

    def replaced(match: re.Match[str]) -> str:
        start, end = match.span("x")
        if rule.named:
            end = start + _name_length(match["x"], rule, common)
        if end == start:
            return match[0]
        counts[rule.code] += 1
        offset = match.start()
        return match[0][: start - offset] + rule.token + match[0][end - offset :]

    return replaced


def _name_length(words: str, rule: Rule, common: frozenset[str]) -> int:
    """Return the length of the part of capitalised words that can be a name; 0 if none can."""
    end = count = 0
    # In capitals, a name's end is known only behind a label of it.
    most = 2 if words.isupper() and rule.code != "name_label" else _MOST_NAMES
    for word in _WORD.finditer(words):
        bare = word[0].rstrip(".").lower().removesuffix("'s").removesuffix("’s")
        initial = len(bare) == 1 or bare in LEADING
        if bare in common and not initial:
            break
        count += not initial
        if count > most:
            break
        end = word.end()
    return end if count >= rule.least else 0
