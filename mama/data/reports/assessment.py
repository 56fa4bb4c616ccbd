"""BI-RADS category and ACR density that a sentence states."""

import re
from functools import cache

from mama.data.reports.language import Language

# Rising concern, in the order in which the atlas takes the category of an exam from its breasts.
RISING = ("1", "2", "3", "6", "0", "4", "4A", "4B", "4C", "5")
_ROMAN = {"I": "1", "II": "2", "III": "3", "IV": "4", "V": "5", "VI": "6"}
_SPELT = ("zero", "one", "two", "three", "four", "five", "six")
_VALUE = (
    r"(?<![\w.,/])(?P<value>[0-6](?-i:\s?[ABC]|[abc])?|(?-i:VI|IV|V|I{1,3})"
    rf"|(?:{'|'.join(_SPELT)})(?=\s*(?:[.,;()–-]|$)))"
    r"(?![\w%]|[.,:]\d|/\d|\s?(?:mm|cm|%|/\s?\d|mo\b|month|year|view))"
)
_NAME = r"(?:(?:ACR[\s-])?BI[\s-]?[-–]?RADS?[®™]?|(?-i:BR)(?=[\s-]?[0-6]))"
_CATEGORY = r"(?:assessment\s)?(?:category|code|cat\.|categor[ií]a|kategorie|catégorie|categorie)"
_FILLERS = re.compile(
    r"category|cat|code|score|class|classification|assessment|final|overall|is|"
    r"of|the|are|was|acr|bi|rads|birads|kategorie|klassifikation|typ|stufe|"
    r"categoría|categoria|catégorie|clasificación|clasificada|clasificado|classée|"
    r"classé|classificazione|classificatie|categorie|classificação|avaliação|en|de|"
    r"la|el|to|as|remains|atlas|system|lexicon|result|study|exam|benign|"
    r"negative|suspicious|incomplete|grade|level|left|right|links|rechts",
    re.IGNORECASE,
)
_WORD = re.compile(r"[^\W\d_]+")
_SHORT = re.compile(rf"^[^\w(]*(?:\d[.)]\s)?(?P<words>(?:[^\W\d_]+\W{{1,3}}){{0,6}}?){_VALUE}")
_LETTER = re.compile(
    r"[^.;]{0,45}?(?<![\w'’/.])(?P<value>[A-D]|[a-d]|[1-4]|IV|I{1,3})(?![\w'’%]|[.,:]\d|\s?(?:mm|cm|%|/))"
)
_NAMED_LETTER = re.compile(
    r"(?<!\w)(?i:category|type|typ|tipo|kategorie|categor[ií]a|catégorie|categorie)\s\(?"
    r"([A-D])(?![\w'’])"
)
_BARE = re.compile(r"\W*([A-Da-d]|[1-4])(?=\s*(?:[),;:–-]|\.(?!\d)|$))")
_CLOSED = re.compile(r"\s*(?:[).,;:\]–-]|$)")
_CATEGORICAL = re.compile(
    r"acr|type|typ|tipo|category|kategorie|categoría|categoria|catégorie|"
    r"categorie|class|klasse|classe|clase|grade|grad|grado|group|gruppe|grupo|groupe|gruppo|groep|patron|patrón|padrão|bi-rads|birads|rads",
    re.IGNORECASE,
)


@cache
def _birads(language: Language) -> re.Pattern[str]:
    names = f"{_NAME}|{_CATEGORY}" + (r"|ACR" if language.acr == "assessment" else "")
    return re.compile(
        rf"(?<!\w)(?P<name>{names})(?P<words>[^\d;.]{{0,50}}?){_VALUE}", re.IGNORECASE
    )


def birads(text: str, language: Language, expected: bool = False) -> list[str]:
    """Return the categories that a sentence gives, "0" to "6" or "4A" to "4C".

    Earlier categories ("previously BI-RADS 3") and those of density do not count.

    Args:
        text: one sentence or clause about one breast, or about the exam.
        language: table of its language.
        expected: a bare "Left: 2" is a category, since a heading says so.
    """
    values = []
    for match in _birads(language).finditer(text):
        before = text[max(0, match.start() - 30) : match.start()]
        inside = match["words"]
        if language["previous"].search(before) or language["density_words"].search(inside):
            continue
        if not _NAMED.match(match["name"]) and language["density_words"].search(before):
            continue
        if all(_filler(word, language) for word in _WORD.findall(inside)):
            values.append(_category(match["value"]))
    if not values and expected and (short := _SHORT.match(text)):
        words = _WORD.findall(short["words"])
        density = language["density_words"].search(short["words"])
        if not density and all(_filler(word, language) for word in words):
            values.append(_category(short["value"]))
    return values


_NAMED = re.compile(r"ACR|BI", re.IGNORECASE)


def names_birads(text: str, language: Language) -> bool:
    """Return whether a sentence speaks of BI-RADS."""
    return re.search(_NAME, text, re.IGNORECASE) is not None


def density(text: str, language: Language, expected: bool = False) -> str | None:
    """Return the ACR density "A" to "D" that a sentence gives in words, letters or numbers.

    Args:
        text: one sentence.
        language: table of its language.
        expected: a bare letter at the start is a density, since the heading says so.
    """
    for value in "DCBA":
        if language[f"density.{value}"].search(text):
            return value
    if expected and (bare := _BARE.match(text)):
        return _density(bare[1])
    found = list(language["density_words"].finditer(text))
    if (found or expected) and (named := _NAMED_LETTER.search(text)):
        return named[1].upper()
    for word in found:
        letter = _LETTER.match(text, word.end())
        if not letter or (
            language.acr == "assessment" and word[0].lower() == "acr" and letter["value"] in "1234"
        ):
            continue
        value = letter["value"]
        inside = text[word.end() : letter.start("value")]
        words = [token.lower() for token in _WORD.findall(inside)]
        last = words[-1] if words else word[0].lower()
        marked = _CATEGORICAL.fullmatch(last) is not None or inside.rstrip()[-1:] in ("(", ":", "=")
        if not all(_filler(token, language) or _CATEGORICAL.fullmatch(token) for token in words):
            continue
        if (marked or value.isupper()) and (value not in "Aa" or _CLOSED.match(text, letter.end())):
            return _density(value)
        if value.islower() and not words and _CLOSED.match(text, letter.end()):
            return _density(value)
        if value.isdigit() and not words:
            return _density(value)
    return None


def most_concerning(values: list[str]) -> str | None:
    """Return the category of an exam from those of its breasts; None without any."""
    return max(values, key=RISING.index) if values else None


def _filler(word: str, language: Language) -> bool:
    sides = [language[name] for name in ("left", "right", "both")]
    sided = any(side.fullmatch(word) for side in sides)
    word = word.lower()
    small = language.words["nouns"] | language.words["articles"] | language.words["joins"]
    sided = sided or word.upper() in (*language.letters["left"], *language.letters["right"])
    return (
        _FILLERS.fullmatch(word) is not None
        or word in small
        or sided
        or _in_density(word, language)
    )


def _in_density(word: str, language: Language) -> bool:
    return language["density_words"].fullmatch(word) is not None


def _category(value: str) -> str:
    value = str(_SPELT.index(value.lower())) if value.lower() in _SPELT else value
    value = value.upper().replace(" ", "")
    value = _ROMAN.get(value, value)
    return value if value[0] == "4" else value[0]


def _density(value: str) -> str:
    number = _ROMAN.get(value, value)
    return "ABCD"[int(number) - 1] if number.isdigit() else number.upper()
