"""ACR density that a sentence gives in words, letters, numbers or per cent of glandular tissue."""

import re

from mama.data.reports.categories.birads import ARROW, ROMAN, WORD, filler
from mama.data.reports.findings import negation_cues
from mama.data.reports.language import Language

_FROM_TO = re.compile(
    r"(?<!\w)(?:from|von|de|da|van)\s(?:[^\W\d_]{3,}\s)?[A-Da-d1-4]"
    rf"(?:{ARROW}|\s(?:to|auf|à|a|para|naar)\s)(?:[^\W\d_]{{3,}}\s)?([A-D]|[a-d]|[1-4])(?!\w)",
    re.IGNORECASE,
)
_AFTER_NAME = re.compile(r"RADS(?:[®™]|\(R\))?\s$", re.IGNORECASE)
_SIDED = re.compile(r"\s?[:=–-]?\s?(?:[0-6]|IV|V|I{1,3})(?:\s?[A-C]|[a-c])?(?!\w)")
_PHRASE_END = re.compile(r"[.;:,(]")
_NEAR = 60  # characters between a negation and the density that it denies
_FEW = 4  # words between them
_APART = 2  # other words between "density" and a letter in brackets: "intermediate density (b)"
_LETTER = re.compile(
    r"[^.;]{0,45}?(?<![\w'’/.])(?P<value>[A-D]|[a-d]|[1-4]|IV|I{1,3})(?![\w'’%]|[.,:]\d|\s?(?:mm|cm|%|/))"
)
_NAMED_LETTER = re.compile(
    r"(?<!\w)(?i:category|type|typ|tipo|kategorie|categor[ií]a|catégorie|categorie)\s\(?"
    r"([A-D])(?![\w'’])"
)
_TYPED = re.compile(
    r"(?<!\w)(?:category|type|typ|tipo|kategorie|categor[ií]a|catégorie|categorie|grade|grad|grado)\s"
    r"\(?([A-D]|[1-4]|IV|I{1,3})\)?\s(?=[^\W\d_]{4})",
    re.IGNORECASE,
)
# "(1) an oval mass" begins a list.
_BARE = re.compile(r"(?!\W*\d\)\s*\w)\W*([A-Da-d]|[1-4])(?=\s*(?:[),;:–-]|\.(?!\d)|$))")
# Quartiles of glandular tissue (ACR BI-RADS atlas, fourth edition).
_QUARTER = re.compile(
    r"(?P<low>\d{1,2})\s?%?\s?(?:[-–]|to|bis|à|a|tot)\s?(?P<high>\d{2,3})\s?(?:%|percent|per cent)"
    r"|(?P<sign>[<>])\s?(?P<bound>25|75)\s?(?:%|percent|per cent)",
    re.IGNORECASE,
)
_QUARTERS = {"25": "A", "50": "B", "75": "C", "100": "D"}
_CLOSED = re.compile(r"\s*(?:[).,;:\]–-]|$)")
_CATEGORICAL = re.compile(
    r"acr|type|typ|tipo|category|kategorie|categoría|categoria|catégorie|"
    r"categorie|class|klasse|classe|clase|grade|grad|grado|group|gruppe|grupo|groupe|gruppo|groep|patron|patrón|padrão|bi-rads|birads|rads",
    re.IGNORECASE,
)


def density(text: str, language: Language, expected: bool = False) -> str | None:
    """Return the ACR density "A" to "D" that a sentence gives in words, letters or numbers.

    Args:
        text: one sentence.
        language: table of its language.
        expected: a bare letter at the start is a density, since the heading says so.
    """
    phrases, earlier = _phrases(text, language)
    if phrases:
        return max(phrases)
    if expected and (bare := _BARE.match(text)):
        return _density(bare[1])
    found = list(language["density_words"].finditer(text))
    if (found or expected) and (quarter := _quarter(text)):
        return quarter
    if (found or expected) and (named := _NAMED_LETTER.search(text)):
        return named[1].upper()
    for typed in _TYPED.finditer(text):  # "type 3 parenchyma"
        if language["density_words"].match(text, typed.end()):
            return _density(typed[1].upper())
    now = language["changed"].search(text) if found else None
    if now and (bare := _BARE.match(text, now.end())):
        return _density(bare[1])
    if found and (changed := _FROM_TO.search(text)):
        return _density(changed[1])
    for word in found:
        letter = _LETTER.match(text, word.end())
        if not letter or _categorical(text, word, letter, language):
            continue
        value = letter["value"]
        inside = text[word.end() : letter.start("value")]
        words = [token.lower() for token in WORD.findall(inside)]
        last = words[-1] if words else word[0].lower()
        marked = _CATEGORICAL.fullmatch(last) is not None or inside.rstrip()[-1:] in ("(", ":", "=")
        closed = inside.endswith("(") and text.startswith(")", letter.end()) and value.isalpha()
        small = all(filler(token, language) or _CATEGORICAL.fullmatch(token) for token in words)
        if not small and not (closed and len(words) <= _APART):
            continue
        if (marked or value.isupper()) and (value not in "Aa" or _CLOSED.match(text, letter.end())):
            return _density(value)
        if value.islower() and not words and _CLOSED.match(text, letter.end()):
            return _density(value)
        if value.isdigit() and not words:
            return _density(value)
    return max(earlier, default=None)


def _quarter(text: str) -> str | None:
    """Return the density of a quartile of glandular tissue: "25-50 %", "> 75 %"."""
    for match in _QUARTER.finditer(text):
        if match["sign"]:
            if (match["sign"], match["bound"]) in (("<", "25"), (">", "75")):
                return "A" if match["sign"] == "<" else "D"
        elif match["high"] in _QUARTERS and 24 <= int(match["high"]) - int(match["low"]) <= 26:
            return _QUARTERS[match["high"]]
    return None


def _phrases(text: str, language: Language) -> tuple[list[str], list[str]]:
    """Return the densities that phrases give, those of now and those of earlier exams.

    Denied ones count as neither: "no longer heterogeneously dense", "dense tissue is not seen".
    """
    present: list[str] = []
    earlier: list[str] = []
    cues = [cue.end() for cue in negation_cues(text, language)]
    former = [word.end() for word in language["previous"].finditer(text)]
    for value in "ABCD":
        for phrase in language[f"density.{value}"].finditer(text):
            if any(_reaches(text, cue, phrase.start(), language) for cue in cues):
                continue
            end = phrase.end()
            denial = language["negation.after"].search(text, end, end + _NEAR)
            alone = denial is None or " " not in denial[0]  # "extremely dense. None" denies nothing
            if denial and not alone and _reaches(text, end, denial.start(), language):
                continue
            was = any(_reaches(text, word, phrase.start(), language) for word in former)
            (earlier if was else present).append(value)
    return present, earlier


def _reaches(text: str, start: int, end: int, language: Language) -> bool:
    """Return whether only a few words that are no finding stand between two places of a text."""
    between = text[start:end]
    return (
        0 <= end - start <= _NEAR
        and len(between.split()) <= _FEW
        and not _PHRASE_END.search(between)
        and not language["finding"].search(between)
        and not language["generic"].search(between)
    )


def _categorical(text: str, word: re.Match[str], letter: re.Match[str], language: Language) -> bool:
    """Return whether a letter or number after a word of density belongs to a category."""
    value = letter["value"]
    if word[0].lower() == "acr" and "RADS" in text[word.end() : letter.start("value")].upper():
        return True  # "ACR BI-RADS: 2"
    number = word[0].lower() == "acr" and value[0] in "1234I"
    if number and (language.acr == "assessment" or _AFTER_NAME.search(text[: word.start()])):
        return True
    sides = (*language.letters["left"], *language.letters["right"])
    return value in sides and _SIDED.match(text, letter.end("value")) is not None


def _density(value: str) -> str:
    number = ROMAN.get(value, value)
    return "ABCD"[int(number) - 1] if number.isdigit() else number.upper()
