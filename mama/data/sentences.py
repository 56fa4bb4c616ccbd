"""Reports as sentences, and the sentences that speak of one breast.

Hospitals write reports as prose, as lists and under headings, often with lines broken by hand. The
rules here only decide where to cut: no character but white space is ever dropped.
"""

import re
from collections.abc import Iterable

from mama.data.studies import Laterality

ABBREVIATIONS = re.compile(
    r"(dr|mr|mrs|ms|prof|st|vs|approx|ca|cf|e\.g|i\.e|fig|pt|resp|incl|lat|bilat|prev|lt|rt|l|r)"
)
WRAPPED = 60  # characters; a line at least this long was broken by its width, not by its writer

_STOP = re.compile(
    r"[.!?]+[\"')\]]*(?=\s)"  # a full stop before white space: "1.5 cm" has none
    r"|(?<=[a-z]{2})\.(?=[A-Z][a-z])"  # or between words where the space was forgotten
)
_ENUMERATION = re.compile(r"\(?\d{1,2}\.?$")
_HEADING = re.compile(r"[A-Z][A-Za-z /&-]{1,40}:$")

_SIDES: dict[Laterality, re.Pattern[str]] = {
    "L": re.compile(
        r"\b(?i:left|lt)\b|\bL(?=\.?\s(?i:breast|axilla|nipple|MLO|CC)\b)|\bL(?:CC|MLO|ML|LM)\b"
    ),
    "R": re.compile(
        r"\b(?i:right|rt)\b|\bR(?=\.?\s(?i:breast|axilla|nipple|MLO|CC)\b)|\bR(?:CC|MLO|ML|LM)\b"
    ),
}
_BOTH = re.compile(r"\b(bilateral(ly)?|both|either|each)\b", re.IGNORECASE)
_TITLE = re.compile(r"\s*([A-Za-z][A-Za-z /&-]{1,40}):")


def split_sentences(report: str) -> tuple[str, ...]:
    """Cut a report into sentences; a heading stays with the sentence that follows it."""
    sentences: list[str] = []
    for paragraph in _paragraphs(report):
        sentences += _sentences(paragraph)
    return tuple(_joined_headings(sentences))


def for_side(sentences: Iterable[str], side: Laterality | None) -> tuple[str, ...]:
    """The sentences about one breast: all but those that name only the other.

    A sentence under a title that names a side ("Left breast: …") belongs to that side until the
    next title, unless it names a side itself. `None` keeps everything.
    """
    if side is None:
        return tuple(sentences)
    kept: list[str] = []
    section: set[Laterality] = set()
    for sentence in sentences:
        if title := _TITLE.match(sentence):
            section = _sides(title[1])
        named = _sides(sentence) or section
        if not named or side in named:
            kept.append(sentence)
    return tuple(kept)


def _sides(text: str) -> set[Laterality]:
    if _BOTH.search(text):
        return {"L", "R"}
    return {side for side, pattern in _SIDES.items() if pattern.search(text)}


def _paragraphs(report: str) -> list[str]:
    """Lines, joined where one goes on in the next."""
    paragraphs: list[str] = []
    goes_on = False
    previous = ""
    for line in (line.strip() for line in report.splitlines()):
        wrapped = len(previous) >= WRAPPED and previous[-1:] not in ".!?:;"
        if line and goes_on and (line[0].islower() or wrapped):
            paragraphs[-1] += " " + line
        elif line:
            paragraphs.append(line)
        goes_on, previous = bool(line), line
    return paragraphs


def _sentences(paragraph: str) -> list[str]:
    cased = any(character.isupper() for character in paragraph)
    sentences: list[str] = []
    start = 0
    for stop in _STOP.finditer(paragraph):
        sentence = paragraph[start : stop.end()].strip()
        rest = paragraph[stop.end() :].lstrip()
        if sentence and rest and not _goes_on(sentence, rest, cased):
            sentences.append(sentence)
            start = stop.end()
    return [*sentences, paragraph[start:].strip()]


def _goes_on(sentence: str, rest: str, cased: bool) -> bool:
    """Whether the full stop at the end of `sentence` does not end it."""
    last_word = sentence.split()[-1].rstrip(".").lstrip("(").lower()
    lower_case_follows = cased and rest[0].islower()
    abbreviated = sentence.endswith(".") and bool(ABBREVIATIONS.fullmatch(last_word))
    return lower_case_follows or abbreviated or bool(_ENUMERATION.fullmatch(sentence))


def _joined_headings(sentences: list[str]) -> list[str]:
    joined: list[str] = []
    for sentence in sentences:
        if joined and _HEADING.fullmatch(joined[-1]):
            joined[-1] += " " + sentence
        else:
            joined.append(sentence)
    return joined
