"""Sentences of a report's text; only white space is lost."""

import re
from dataclasses import dataclass

from mama.data.reports.identifier_rules import ordinary
from mama.data.reports.language import Language

LONGEST = 1500  # characters of a sentence; a text without any stop is cut between words
WRAPPED = 60  # characters; a line at least this long was wrapped, not ended, by its writer

_CONTEXT = 300  # characters before a stop that decide on it
_STOP = re.compile(
    r"[.!?]+[\"'”’)\]]*(?=\s)"  # a full stop before white space: "1.5 cm" has none
    r"|(?<=[^\W\d_]{2})\.(?=[^\W\d_a-zà-ÿ][^\W\d_A-ZÀ-ß])"  # between words with a missing space
    r"|[。！？]+[」』”）]*"  # Chinese and Japanese need no space
    r"|(?<=[a-zà-ÿ0-9)])(?=\s[A-Z]{6,16}:\s)"  # before a heading in capitals
)
_ENUMERATION = re.compile(r"\(?(?:\d{1,2}|[a-hA-H]|[ivIV]{1,3})[.)]?")
_BULLET = re.compile(r"(?:[-–—•*·>+o]|\(?\d{1,2}[.)])\s")
# Abbreviations of sides and answers, which may end a sentence: "Cyst on the lt. No mass."
_ENDING = re.compile(r"lt|rt|l|r|li|re|dx|sx|izq|der|bds|dir|esq|no|etc|d|s|dta|dte|gche|o\.b|g\.b")
_NAME = re.compile(
    r"\b(?:drs?|dra|mrs?|ms|prof|sra?|frau|herr|mme|m|dott|by|von|por|par)\.?\s+[^\W\d_]\.$",
    re.IGNORECASE,
)
_LETTERS = re.compile(r"[^\W\d_]+")
_GRADE = re.compile(
    r"\b(?:ACR|type|typ|tipo|category|grade|class[ei]?|klasse)\s[A-D]\.$", re.IGNORECASE
)
_INITIAL = re.compile(r"[^\W\d_]\.")


@dataclass(frozen=True)
class Paragraph:
    """One line of a report, with the lines that it was wrapped to; `apart` follows a blank line."""

    sentences: list[str]
    apart: bool


def split(text: str, language: Language | None) -> list[Paragraph]:
    """Return the paragraphs of a text and their sentences, all stripped and not empty."""
    found = []
    for line, apart in paragraphs(text):
        sentences = [part for s in _sentences(line, language) for part in _short(s)]
        if sentences:
            found.append(Paragraph(sentences, apart))
    return found


def _short(sentence: str) -> list[str]:
    """Return a sentence in parts of bounded length, so that all rules take linear time."""
    parts = []
    while len(sentence) > LONGEST:
        blank = sentence.rfind(" ", 0, LONGEST)
        cut = blank if blank > 0 else LONGEST
        parts.append(sentence[:cut].strip())
        sentence = sentence[cut:].strip()
    return [part for part in [*parts, sentence] if part]


def paragraphs(text: str) -> list[tuple[str, bool]]:
    """Return the lines of a text, and whether each follows a blank line.

    Wrapped lines are joined, and white space is made single blanks.
    """
    joined: list[tuple[list[str], bool]] = []
    continues = False
    previous = ""
    for line in (" ".join(line.split()) for line in text.split("\n")):
        fresh = bool(_BULLET.match(line)) or _titled(line)
        wrapped = len(previous) >= WRAPPED and previous[-1:] != ":"
        if line and continues and not fresh and (line[0].islower() or wrapped):
            joined[-1][0].append(line)
        elif line:
            joined.append(([line], not continues and bool(joined)))
        continues, previous = bool(line), line
    return [(" ".join(lines), apart) for lines, apart in joined]


def _titled(line: str) -> bool:
    """Return whether a line begins with a heading in capitals or of at most three words."""
    title, colon, _ = line[:60].partition(":")
    words = title.split()
    return bool(colon and words) and title[0].isupper() and (title.isupper() or len(words) <= 3)


def _sentences(paragraph: str, language: Language | None) -> list[str]:
    cased = any(character.islower() for character in paragraph)
    sentences: list[str] = []
    start = 0
    for stop in _STOP.finditer(paragraph):
        sentence = paragraph[max(start, stop.end() - _CONTEXT) : stop.end()].strip()
        rest = paragraph[stop.end() : stop.end() + 40].lstrip()
        title = stop.end() == stop.start()
        ends = title or not _continues(sentence, rest, cased, language)
        if sentence and rest and ends:
            sentences.append(paragraph[start : stop.end()].strip())
            start = stop.end()
    return [*sentences, paragraph[start:].strip()]


def _continues(sentence: str, rest: str, cased: bool, language: Language | None) -> bool:
    """Return whether the sentence continues after its final full stop."""
    last = sentence[-80:].split()[-1].lstrip("([\"'“")
    if sentence[-1] in "。！？":
        return False
    if _GRADE.search(sentence[-24:]):
        return False
    if _ENUMERATION.fullmatch(sentence) or rest[0] in ",;)%":
        return True
    if not sentence.endswith("."):
        return cased and rest[0].islower() and any(c.isupper() for c in sentence)
    following = _LETTERS.match(rest)
    after = following[0].lower() if following else ""
    if _INITIAL.fullmatch(last) and (
        _after_title(sentence) or (last[0] in "LR" and _named(rest, after, language))
    ):
        return True
    word = last.rstrip(".").lower()
    if language and word in language.words["abbreviations"]:
        noun = after in language.words["nouns"]
        return not _ENDING.fullmatch(word) or noun or rest[0].islower() or rest[0].isdigit()
    # An initial, as in "A. Patel", unless a category: "Density is C. No mass."
    if _INITIAL.fullmatch(last) and last[0].isupper() and last[0] not in "ABCDLR":
        return True
    return cased and rest[0].islower() and any(c.isupper() for c in sentence)


def _named(rest: str, word: str, language: Language | None) -> bool:
    """Return whether a name follows an initial: "L. Smith", not "on the L. No mass."."""
    code = language.code if language else None
    return bool(word) and rest[:2].istitle() and word not in ordinary(code)


def _after_title(sentence: str) -> bool:
    return bool(_NAME.search(sentence[-24:]))
