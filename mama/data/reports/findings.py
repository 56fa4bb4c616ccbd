"""Findings that a sentence states, with negation and uncertainty by rules in the way of ConText.

A cue such as "no" reaches forward to the end of its clause ("but", ";"), one such as "not seen"
reaches back over the list before it.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from mama.data.reports.language import Language

KINDS = ("mass", "calcification", "asymmetry", "distortion")
Polarity = Literal["present", "possible", "absent"]
_STRENGTH: dict[Polarity, int] = {"absent": 0, "possible": 1, "present": 2}
_WORD = re.compile(r"[^\W_]+")


@dataclass(frozen=True)
class Term:
    """One place where a finding is named; `kind` "other" is a finding of none of the four kinds."""

    start: int
    end: int
    kind: str
    polarity: Polarity
    word: str


def terms(text: str, language: Language) -> list[Term]:
    """Return all findings that a sentence names, in its order."""
    masked = _blanked(text, language["not_mass"])
    places = [
        (*match.span(), kind)
        for kind in (*KINDS, "other")
        for match in language["generic" if kind == "other" else f"findings.{kind}"].finditer(masked)
    ]
    places = _outermost(places)
    absent = _negated(text, places, language)
    possible = _doubted(text, places, language)
    return [
        Term(
            start,
            end,
            kind,
            "absent"
            if (start, end) in absent
            else "possible"
            if (start, end) in possible
            else "present",
            text[start:end].lower(),
        )
        for start, end, kind in places
    ]


def stated_terms(text: str, body: str, language: Language) -> list[Term]:
    """Return the findings of a sentence behind headings, such as "Masses: None".

    A heading names a finding that the sentence states only if the sentence itself names none.
    """
    shift = max(0, text.rfind(body))
    found = [replace(t, start=t.start + shift, end=t.end + shift) for t in terms(body, language)]
    if any(term.kind in KINDS for term in found):
        return found
    titled = [t for t in terms(text, language) if t.start < shift and t.kind in KINDS]
    return [*titled, *found]


def polarities(found: Iterable[Term]) -> dict[str, Polarity]:
    """Return the strongest statement about each of the four kinds."""
    best: dict[str, Polarity] = {}
    for term in found:
        if term.kind in KINDS and _STRENGTH[term.polarity] >= _STRENGTH.get(
            best.get(term.kind, "absent"), 0
        ):
            best[term.kind] = term.polarity
    return best


def negation_cues(text: str, language: Language) -> list[re.Match[str]]:
    """Return the places of the words that negate what follows them."""
    clean = _blanked(text, language["negation.not_negation"])
    return list(language["negation.before"].finditer(clean))


def negates(text: str, language: Language) -> bool:
    """Return whether a sentence says that something is absent."""
    text = _blanked(text, language["negation.not_negation"])
    return any(language[f"negation.{place}"].search(text) for place in ("before", "after"))


def _negated(
    text: str, places: list[tuple[int, int, str]], language: Language
) -> set[tuple[int, int]]:
    clean = _blanked(text, language["negation.not_negation"])
    scopes = _scoped(clean, language["negation.before"], language)
    absent = {
        (start, end) for start, end, _ in places if any(low <= start < high for low, high in scopes)
    }
    for cue in language["negation.after"].finditer(clean):
        if language["negation.before"].match(cue[0]) and not _closes(clean, cue):
            continue
        absent |= _list_before(clean, cue.start(), places, language)
    return absent


def _doubted(
    text: str, places: list[tuple[int, int, str]], language: Language
) -> set[tuple[int, int]]:
    """Return the terms that a cue such as "possible" reaches, or those before "is suspected"."""
    doubted: set[tuple[int, int]] = set()
    for low, high in _scoped(text, language["uncertain"], language):
        after = {(start, end) for start, end, _ in places if low <= start < high}
        doubted |= after or _list_before(text, low, places, language)
    return doubted


def _closes(text: str, cue: re.Match[str]) -> bool:
    """Return whether a short cue ends its entry, as in "Calcifications: no", or is a phrase."""
    alone = " " not in cue[0]
    entry = text[: cue.start()].rstrip()[-1:] in (":", "-", "–", "=")
    return not alone or (entry and not text[cue.end() :].strip(" .,;"))


def _list_before(
    text: str, cue: int, places: list[tuple[int, int, str]], language: Language
) -> set[tuple[int, int]]:
    """Return the terms that a cue after them negates: the nearest, and those listed with it."""
    chain: set[tuple[int, int]] = set()
    edge = cue
    for start, end, _ in sorted(places, reverse=True):
        if end > edge:
            continue
        gap = text[end:edge]
        if ";" in gap or language["ends"].search(gap):
            break
        if chain:
            words = [word.lower() for word in _WORD.findall(gap)]
            listed = "," in gap or "/" in gap or any(w in language.words["joins"] for w in words)
            if not listed or sum(word not in language.words["joins"] for word in words) > 1:
                break
        chain.add((start, end))
        edge = start
    return chain


def _scoped(text: str, cues: re.Pattern[str], language: Language) -> list[tuple[int, int]]:
    """Return the stretches of text that cues reach forward over."""
    stops = [match.start() for match in language["ends"].finditer(text)]
    stops += [match.start() for match in re.finditer(r"[;|]|\.\s|:\s", text)]
    stops.sort()
    scopes = []
    for cue in cues.finditer(text):
        later = [stop for stop in stops if stop >= cue.end()]
        scopes.append((cue.start(), later[0] if later else len(text)))
    return scopes


def _outermost(places: list[tuple[int, int, str]]) -> list[tuple[int, int, str]]:
    """Drop terms inside longer ones; of equal places the earlier kind wins."""
    kept: list[tuple[int, int, str]] = []
    for start, end, kind in sorted(places, key=lambda place: (place[0], -place[1])):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end, kind))
    return kept


def _blanked(text: str, pattern: re.Pattern[str]) -> str:
    return pattern.sub(lambda match: " " * len(match[0]), text)
