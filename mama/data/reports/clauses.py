"""A sentence about both breasts is cut where it passes from one to the other."""

import re
from itertools import pairwise

from mama.data.reports.language import Language
from mama.data.reports.mentions import Mention, mentions

# "BI-RADS4" and "R2" have no space before the value.
_GRADE = (
    r"(?:(?<![\w.,])|(?<=RADS)|(?<=ACR)|(?<=BR)|(?<=(?<!\w)[LRDGSEI]))"
    r"(?:[0-6][ABCabc]?|IV[ABCabc]?|VI?|I{1,3})"
)
_VALUE = re.compile(rf"{_GRADE}(?!(?![LRG](?!\w))[\w%]|[.,:]\d|\s?(?:mm|cm|x\s|o['’]))")
_NAMED = re.compile(r"BI[\s-]?RADS|categor|kategorie|catégor|ACR|\bBR[\s-]?[0-6]", re.IGNORECASE)
_ENTRY = re.compile(r"[:=(]\s?\S")
_VALUE_END = re.compile(rf"{_GRADE}[\s)/|]*$")
_STRONG = re.compile(
    r";\s|(?<=[\w.)])\s+[-–—•·*|]+\s+|\s/\s|/(?=[0-6IV]+[ABCabc]?\s)|\.\s(?!\d|[IV]+\b)"
)
_WEAK = re.compile(r",\s")
_OWN = 2  # words before a side that opens its clause


def clauses(sentence: str, language: Language) -> list[str]:
    """Return the parts of a sentence by breast; the whole sentence if it cannot be cut.

    A cut needs a boundary (a semicolon, a dash, "and", a comma) between two sides, and a statement
    in both parts: "larger on the left than on the right" stays whole.
    """
    found = mentions(sentence, language)
    parts: list[str] = []
    start = 0
    for before, after in pairwise(found):
        if before.side == after.side or not (before.side or after.side):
            continue
        place = _boundary(sentence, start, (before, after), language)
        if place is not None and _states_after(sentence, place, after, found, language):
            parts.append(sentence[start:place].strip())
            start = place
    return [part for part in [*parts, sentence[start:].strip()] if part]


def _boundary(
    sentence: str, start: int, sides: tuple[Mention, Mention], language: Language
) -> int | None:
    """Return where to cut between two mentions, after a part that states something."""
    before, after = sides
    between = sentence[before.end : after.start]
    leads = len(sentence[start : before.start].split()) <= _OWN
    joined = [m.start() for m in language["cuts"].finditer(between)]
    groups = [
        [m.start() + (len(m[0]) - len(m[0].lstrip())) for m in _STRONG.finditer(between)],
        joined,
        [
            m.end()
            for m in _WEAK.finditer(between)
            if not language["relative"].match(sentence, before.end + m.end())
        ],
    ]
    for places in groups:
        # A side that opens its clause keeps all up to the next side; one that ends it, nothing.
        for place in reversed(places) if leads else places:
            cut = before.end + place
            if sentence[cut : cut + 1] in ".;/":
                cut += 1
            if _states(sentence, start, cut, language):
                return cut
    # "R: 1 L: 2" has no boundary but the value.
    if _NAMED.search(sentence) and _VALUE_END.search(between):
        return after.start
    return None


def _states_after(
    sentence: str, place: int, after: Mention, found: list[Mention], language: Language
) -> bool:
    """Return whether the part after a cut, up to the next change of side, states something."""
    later = [m.start for m in found if m.start > after.start and m.side != after.side]
    return _states(sentence, place, later[0] if later else len(sentence), language)


def _states(sentence: str, start: int, end: int, language: Language) -> bool:
    """Return whether a part of a sentence states something."""
    part = sentence[start:end]
    if any(language[name].search(part) for name in ("finding", "generic", "statements")):
        return True
    return bool(_ENTRY.search(part) or (_VALUE.search(part) and _NAMED.search(sentence)))
