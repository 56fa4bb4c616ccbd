"""Breasts that a sentence names, and where it does."""

import re
from dataclasses import dataclass
from functools import cache
from typing import Literal

from mama.data.reports.language import Language

Side = Literal["L", "R", "both"]
OTHER: dict[Side, Side] = {"L": "R", "R": "L", "both": "both"}

_VIEW = re.compile(
    r"(?<![\w-])([LR])[ -]?(?:CC|MLO|ML|LM|LMO|XCC|XCCL|XCCM|AT|CV|SIO|FB|MCC|MMLO|ID)(?:ID)?(?!\w)"
)
_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*")
_TRADEMARK = re.compile(r"(?<=RADS)\(R\)", re.IGNORECASE)
_NAMED = re.compile(r"RADS|ACR|categor|kategorie|catégor|classif|klassif|clasif", re.IGNORECASE)
_GRADE = r"(?:[0-6](?:\s?[ABC]|[abc])?|IV[ABCabc]?|VI?|I{1,3})"
_GRADED = rf"(?={_GRADE}(?![\w%]|[.,:]\d|\s?(?:mm|cm|/\s?\d|h\b)))"
_AT_NAME = re.compile(rf"(?:RADS|ACR)\W{{0,4}}(?:{_GRADE}\s?(?:[àa]\s)?)?$", re.IGNORECASE)
_GAP = 40  # characters between the sides of "right breast and left breast"


@dataclass(frozen=True)
class Mention:
    """A place in a sentence that names a side; None stands for the opposite side."""

    start: int
    end: int
    side: Side | None


def mentions(text: str, language: Language) -> list[Mention]:
    """Return the sides that a text names, in its order; "right and left" is one mention of both."""
    text = _without(_without(text, language["not_sides"]), _TRADEMARK)
    found = [Mention(*match.span(), "both") for match in language["both"].finditer(text)]
    text = _without(text, language["both"])
    found += [Mention(*match.span(), None) for match in language["other"].finditer(text)]
    text = _without(text, language["other"])
    left, right, letters = language["left"], language["right"], _letters(language)
    found += [Mention(*match.span(), "L") for match in left.finditer(text)]
    found += [Mention(*match.span(), "R") for match in right.finditer(text)]
    for match in _VIEW.finditer(text):
        found.append(Mention(*match.span(), "L" if match[1] == "L" else "R"))
    for side, pattern in letters.items():
        found += [
            Mention(*match.span(match.lastgroup or 0), side) for match in pattern.finditer(text)
        ]
    found += _graded(text, language)
    found.sort(key=lambda mention: (mention.start, mention.end))
    return _merged(found, text, language)


def _graded(text: str, language: Language) -> list[Mention]:
    """Return the letters of sides before or after categories: "BI-RADS R2 L5", "BI-RADS 2 R"."""
    if not _NAMED.search(text):
        return []
    letters: dict[str, Side] = dict.fromkeys(language.letters["left"], "L")
    letters |= dict.fromkeys(language.letters["right"], "R")
    names = "|".join(map(re.escape, letters))
    before = rf"(?<![\w.'’-])({names})[\s:=–-]{{0,3}}{_GRADED}"
    after = rf"(?<![\w.,/]){_GRADE}\s?(?:[àa]\s)?({names})(?![\w'’-]|\s?[:=\d])"
    kept: list[Mention] = []
    for pattern in (before, after):
        found = [Mention(*m.span(1), letters[m[1]]) for m in re.finditer(pattern, text)]
        if {mention.side for mention in found} != {"L", "R"}:
            found = [m for m in found if _AT_NAME.search(text[max(0, m.start - 16) : m.start])]
        kept += found
    return kept


def sides_of(text: str, language: Language) -> Side | None:
    """Return the side that a text names: both if it names two; None without one."""
    named = {mention.side for mention in mentions(text, language)} - {None}
    if not named:
        return None
    return "both" if len(named) > 1 else named.pop()


def _without(text: str, pattern: re.Pattern[str]) -> str:
    """Blank what matches, so that places stay."""
    return pattern.sub(lambda match: " " * len(match[0]), text)


@cache
def _letters(language: Language) -> dict[Side, re.Pattern[str]]:
    """Return patterns of the single letters that stand for a side, each only where it does."""
    patterns: dict[Side, re.Pattern[str]] = {}
    nouns = sorted(language.words["nouns"], key=len, reverse=True)
    noun = "|".join(map(re.escape, nouns))
    join = rf"(?:(?i:{'|'.join(map(re.escape, sorted(language.words['joins'])))})\s)?"
    sides: tuple[tuple[Side, str], ...] = (("L", "left"), ("R", "right"))
    for side, name in sides:
        letter = "|".join(map(re.escape, language.letters[name]))
        patterns[side] = re.compile(
            rf"\((?P<a>{letter})\)"  # (L)
            rf"|(?:^|[-–•*;,.:(/]\s?)(?P<b>{letter})(?:\s?[:=]|\s[-–]\s)"  # L: or L - at a start
            rf"|(?<![\w.'’-])(?P<c>{letter})(?=[.]?\s(?i:{noun})(?!\w))"  # L breast
            rf"|(?<![\w.'’-])(?P<d>{letter})(?=\s(?:at\s)?\d{{1,2}}(?::\d\d|\s?o['’]clock|\s?h\b))"
            rf"|(?<!\w)(?i:{noun})\s(?P<e>{letter})(?![\w'’]|\.\s?[^\W\d_])"  # sein G
            rf"|(?<![\w.'’-])(?P<g>{letter})(?=\s?[:=]\s?\d)"  # R:1
            rf"|^(?P<f>{letter})(?=\s(?:B|M|U|P)\s?-?\d)"  # R B4
            rf"|(?<![\w.'’-])(?P<h>{letter})(?=\s(?i:BI[\s-]?RADS))"  # R BI-RADS 4
            rf"|(?i:RADS:?\s|/\s?|,\s)(?P<i>{letter})(?=\s[0-6][ABC]?(?![\w.%]|\s?[cm]m))"
            rf"|^{join}(?P<j>{letter})[\s:=–-]{{0,3}}{_GRADED}(?=\w{{1,3}}\W*$)"  # L1
            rf"|^{join}{_GRADE}\s?(?:[àa]\s)?(?P<k>{letter})\W*$"  # and 4B R
        )
    return patterns


def _merged(found: list[Mention], text: str, language: Language) -> list[Mention]:
    """Join the two sides of "right and left", and drop mentions inside others."""
    merged: list[Mention] = []
    small = language.words["articles"] | language.words["nouns"] | language.words["joins"]
    for mention in found:
        last = merged[-1] if merged else None
        if last and (mention.start < last.end or text[last.end : mention.start].isspace()):
            continue  # of "right LOQ" the second is a lower quadrant
        if last and {last.side, mention.side} == {"L", "R"} and mention.start - last.end <= _GAP:
            between = text[last.end : mention.start]
            words = [word.lower() for word in _WORD.findall(between)]
            joined = any(word in language.words["joins"] for word in words)
            joined = joined or between.strip() in ("/", "&", "+")
            if (
                joined
                and all(word in small for word in words)
                and not _apart(text, last, mention, language)
            ):
                merged[-1] = Mention(last.start, mention.end, "both")
                continue
        merged.append(mention)
    return merged


def _apart(text: str, first: Mention, second: Mention, language: Language) -> bool:
    """Return whether "and" joins sentences: "a mass in the right breast and the left is normal"."""
    before, after = text[: first.start], text[second.end :].lstrip(" ,")
    while (word := _WORD.match(after)) and word[0].lower() in language.words["nouns"]:
        after = after[word.end() :].lstrip()
    states = language["finding"].search(before) or language["statements"].search(before)
    verb = language["statements"].match(after)
    return bool(states and verb and not language["plural"].match(after))
