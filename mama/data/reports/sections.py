"""Headings of a report: sections, the sides that headings name, and sentences to leave out."""

import re
from dataclasses import dataclass, replace

from mama.data.reports.language import Language
from mama.data.reports.mentions import Side, sides_of

# The order in which a report's sentences are read if not all fit.
ORDER = (
    *("findings", "impression", "assessment", "addendum"),
    *("composition", "comparison", "indication"),
)
DROPPED = frozenset({"technique", "exam", "administrative"})
_REMARK = re.compile(r"\s?\([^()]+\)")  # Left breast (symptomatic)
_BULLET = re.compile(r"(?:[-–—•*·>+]+\s*|\(?\d{1,2}[.)]\s+(?=\D)|#\d{1,2}:?\s+)+")
_TITLE = re.compile(r"([^\W\d_][^:\n]{0,59}?)\s?:(?!\d)(?=\s|$|[^\W_])\s*")
_DASHED = re.compile(r"([^\W\d_][^:\n–—-]{0,39}?)\s+[-–—]+\s+(?=\S)")
_WORD = re.compile(r"[^\W_]+(?:[-'’.][^\W_]+)*")
MOST = 8  # words of a heading


@dataclass(frozen=True)
class Title:
    """A heading: the section that it opens and the side that it names, if any.

    `pure` headings say nothing but section and side, and hold until the next. `inline` headings
    have text behind them, `overall` ones are of the whole exam.
    """

    section: str | None
    side: Side | None
    pure: bool
    overall: bool = False
    inline: bool = False


@dataclass(frozen=True)
class Headed:
    """A sentence behind its headings; `body` is the text after them, "" for headings alone."""

    titles: tuple[Title, ...]
    body: str


def read_headings(sentence: str, language: Language, alone: bool) -> Headed:
    """Return a sentence's leading headings and what follows them.

    Args:
        sentence: a sentence of `split`.
        language: table of its language.
        alone: the sentence is a whole line, so that it may be a heading without a colon.
    """
    titles: list[Title] = []
    rest = sentence
    while True:
        bullet = _BULLET.match(rest)
        start = bullet.end() if bullet else 0
        found = _TITLE.match(rest, start)
        title = _title(found[1], language) if found else None
        if not title and (found := _DASHED.match(rest, start)):
            title = _title(found[1], language)
            title = title if title and title.pure and title.side else None
        if not title or not found:
            break
        titles.append(title)
        rest = rest[found.end() :]
    if alone and rest and rest[-1] not in ".!?;" and not any(c.isdigit() for c in rest):
        bullet = _BULLET.match(rest)
        line = _title(rest[bullet.end() if bullet else 0 :].rstrip(" :-–"), language)
        if line and line.pure:
            return Headed((*titles, line), "")
    return Headed(tuple(replace(title, inline=bool(rest)) for title in titles), rest)


def is_exam_header(sentence: str, language: Language) -> bool:
    """Return whether a line only names the exam, such as UNILATERAL LEFT DIAGNOSTIC MAMMOGRAM."""
    words = [word.lower() for word in _WORD.findall(sentence)]
    if not 2 <= len(words) <= 12 or sentence[-1] in ".!?;":
        return False
    known = language.words["exam_words"] | language.words["nouns"] | language.words["articles"]
    named = sum(word in language.words["exam_words"] for word in words)
    return named > 0 and all(word in known or _sided(word, language) for word in words)


def is_administrative(sentence: str, language: Language) -> bool:
    """Return whether a sentence is about the report itself and not about a finding of a breast."""
    if not language["administrative"].search(sentence):
        return False
    return not (sides_of(sentence, language) and language["finding"].search(sentence))


def _title(text: str, language: Language) -> Title | None:
    """Return what a heading says; None if the words are no heading."""
    bare = _REMARK.sub("", text)
    text = bare if sides_of(bare, language) else text
    words = [word.lower() for word in _WORD.findall(text)]
    if not words or len(words) > MOST:
        return None
    side = sides_of(text, language)
    if known := language.sections.get(" ".join(text.lower().split())):
        return Title(known, side, True, _overall(words, language))
    kinds = [_sided(word, language) or word in _plain(language) for word in words]
    if side and all(kinds):
        return Title(None, side, True)
    section = _longest(words, language)
    rest = set(words) - set(_heading_words(section[1])) if section else set()
    allowed = _plain(language) | language.words["exam_words"] | language.words["overall"]
    allowed |= language.sections.keys()
    if section and all(word in allowed or _sided(word, language) for word in rest):
        return Title(section[0], side, True, _overall(words, language))
    if len(words) > 5 and not side:
        return None
    return Title(None, side, False)


def _heading_words(heading: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(heading)]


def _longest(words: list[str], language: Language) -> tuple[str, str] | None:
    """Return the section and the longest heading that stands in the words."""
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            heading = " ".join(words[start : start + length])
            if heading in language.sections:
                return language.sections[heading], heading
    return None


def _plain(language: Language) -> frozenset[str]:
    return language.words["nouns"] | language.words["articles"] | language.words["joins"]


def _sided(word: str, language: Language) -> bool:
    letters = {letter.lower() for side in language.letters.values() for letter in side}
    return word in letters or any(
        language[name].fullmatch(form)
        for name in ("left", "right", "both")
        for form in (word, word.upper())  # LB, MI
    )


def _overall(words: list[str], language: Language) -> bool:
    return any(language["overall"].fullmatch(word) for word in words)
