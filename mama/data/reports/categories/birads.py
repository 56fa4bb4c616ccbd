"""BI-RADS categories that a sentence gives."""

import re
from functools import cache

from mama.data.reports.language import Language

# Rising concern, in the order in which the atlas takes the category of an exam from its breasts.
RISING = ("1", "2", "3", "6", "0", "4", "4A", "4B", "4C", "5")
ROMAN = {"I": "1", "II": "2", "III": "3", "IV": "4", "V": "5", "VI": "6"}
_SPELT = ("zero", "one", "two", "three", "four", "five", "six")
# 4A, 4 A, 4b, 4 b; "4 a" only at an end, since "a" is a word.
_SUBDIVISION = r"(?-i:\s?[ABC]|[abc]|\s[bc]|\sa(?=\s*(?:[,;.)]|$)))?"
_VALUE = (
    # "BI-RADS4" and "R2" have no space before the value.
    r"(?:(?<![\w.,/])|(?<=RADS)|(?<=RAD)|(?<=ACR)|(?<=BR)|(?<=(?<![^\W_])(?-i:[LRDGSE]))"
    r"|(?<=(?<![^\W_])(?-i:I))(?=\d))"
    rf"(?P<value>[0-6]{_SUBDIVISION}|(?-i:IV{_SUBDIVISION}|VI|V|II|III|I(?![\s:=-]{{0,3}}[0-6]))"
    rf"|(?:{'|'.join(_SPELT)})(?=\s*(?:[.,;()–-]|$)))"
    r"(?!(?!(?-i:[LRG])(?!\w))[\w%]|[.,:]\d|/\d|\s?(?:mm|cm|%|/\s?\d|mo\b|month|year|view))"
)
_NAME = r"(?:(?:ACR[\s-])?BI[\s-]?[-–]?RADS?(?:[®™]|\(R\))?|(?-i:BR)(?=[\s-]?[0-6]))"
_CATEGORY = (
    r"(?:assessment\s)?"
    r"(?:category|categories|code|cat\.|categor[ií]a|kategorie|catégorie|categorie)"
)
# Where ACR means density, only a value that no density has is a category.
_ACR_CATEGORY = r"ACR(?=[\s:-]{0,3}(?:[056]|4(?-i:\s?[ABC]|[abc]))(?!\w|[.,]\d))"
# The stop of an abbreviated side: "BI-RADS li. 4b".
_ABBREVIATED = (
    r"(?<=(?<!\w)(?:li|re|lt|rt|dx|sx|sn))\.|(?<=(?<!\w)(?:der|izq|dir|esq|dch|lks|cat|dte))\."
)
ARROW = r"\s*(?:→|->|=>)\s*"
_ONWARD = re.compile(
    rf"(?:(?P<arrow>{ARROW})|\s(?:to|auf|à|a|para|naar)\s)(?:{_NAME}\s)?{_VALUE}", re.IGNORECASE
)
_NEXT = re.compile(rf"[\s:]{{0,3}}(?:{_NAME}\W{{0,3}})?{_VALUE}", re.IGNORECASE)
_FROM = re.compile(r"(?<!\w)(?:from|von|de|da|van)(?!\w)", re.IGNORECASE)
_NAMED_AFTER = re.compile(rf"\s(?:to|as|auf|à|a|para|naar)\s{_VALUE}\s\(?{_NAME}", re.IGNORECASE)
_ACR = re.compile(r"^\s?ACR\s", re.IGNORECASE)
_DENSITIES = ("1", "2", "3", "4")
_BEFORE = 40  # characters before a category that can deny or date it
_FILLERS = re.compile(
    r"category|cat|code|score|class|classification|assessment|final|overall|is|"
    r"of|the|are|was|acr|bi|rads|birads|kategorie|klassifikation|typ|stufe|"
    r"categoría|categoria|catégorie|clasificación|clasificada|clasificado|classée|"
    r"classé|classificazione|classificatie|categorie|classificação|avaliação|en|de|"
    r"la|el|to|as|remains|atlas|system|lexicon|result|study|exam|benign|"
    r"negative|suspicious|incomplete|grade|level|left|right|links|rechts",
    re.IGNORECASE,
)
WORD = re.compile(r"[^\W\d_]+")
_NAMED = re.compile(r"ACR|BI", re.IGNORECASE)
_SHORT = re.compile(
    r"^[^\w(]*(?:\((?=[^\W\d_]))?(?:\d[.)]\s)?"
    rf"(?P<words>(?:[^\W\d_]+\W{{1,3}}){{0,6}}?[^\W\d_]?){_VALUE}"
)


@cache
def _birads(language: Language) -> re.Pattern[str]:
    acr = "ACR" if language.acr == "assessment" else _ACR_CATEGORY
    names = f"{_NAME}|{_CATEGORY}|{acr}"
    return re.compile(
        rf"(?<!\w)(?P<name>{names})(?P<words>(?:[^\d;.]|{_ABBREVIATED}){{0,50}}?){_VALUE}",
        re.IGNORECASE,
    )


def birads(text: str, language: Language, expected: bool = False) -> list[str]:
    """Return the categories that a sentence gives, "0" to "6" or "4A" to "4C".

    Earlier categories ("previously BI-RADS 3", "downgraded from"), denied ones ("not BI-RADS 4"),
    those on a condition ("if biopsy is declined, BI-RADS 3") and those of density do not count.

    Args:
        text: one sentence or clause about one breast, or about the exam.
        language: table of its language.
        expected: a bare "Left: 2" is a category, since a heading says so.
    """
    values: list[str] = []
    end = 0  # of the category before
    condition = language["conditions"].match(text)
    for match in _birads(language).finditer(text):
        if match.start() < end:
            continue  # read with the one that it replaces
        before = text[max(end, match.start() - _BEFORE) : match.start()]
        inside = match["words"]
        end = match.end()
        if language["density_words"].search(_ACR.sub("", inside, 1)):
            continue
        ambiguous = not _NAMED.match(match["name"]) and _category(match["value"]) in _DENSITIES
        if ambiguous and language["density_words"].search(before):
            continue
        if _denied_category(before, language) or (condition and "," in text[: match.start()]):
            continue
        changed = language["changed"].search(before) or language["changed"].search(inside)
        earlier = _is_earlier(before, language)
        onward = _onward(text, end, earlier or bool(_FROM.search(inside)), language)
        if onward:
            values = [_category(onward["value"])]
            end = onward.end()
            continue
        if changed and not language["previous"].search(before, changed.end()):
            values = []
        elif earlier:
            continue
        if all(filler(word, language) for word in WORD.findall(inside)):
            values.append(_category(match["value"]))
    if not values and (named := _NAMED_AFTER.search(text)):
        return [_category(named["value"])]
    if not values and expected and (short := _SHORT.match(text)):
        words = WORD.findall(short["words"])
        density = language["density_words"].search(short["words"])
        if not density and all(filler(word, language) for word in words):
            values.append(_category(short["value"]))
    return values


def _is_earlier(before: str, language: Language) -> bool:
    """Return whether the words before a category make it one of an earlier exam.

    "Stable since the previous exam, BI-RADS 2" gives the category of this one.
    """
    rest, comma, near = before.rpartition(",")
    if language["previous"].search(near):
        return True
    states = language["statements"].search(rest) or language["finding"].search(rest)
    return bool(comma and language["previous"].search(rest) and not states)


def _onward(text: str, end: int, earlier: bool, language: Language) -> re.Match[str] | None:
    """Return the category that replaces the one before it: "from BI-RADS 3 to 4A", "3, now 2"."""
    onward = _ONWARD.match(text, end)
    if onward and (earlier or onward["arrow"]):
        return onward
    changed = language["changed"].search(text, end, end + 24)
    return _NEXT.match(text, changed.end()) if changed else None


def _denied_category(before: str, language: Language) -> bool:
    """Return whether the words right before a category deny it: "not BI-RADS 4"."""
    denials = list(language["negation.category"].finditer(before))
    return bool(denials) and not before[denials[-1].end() :].strip(" (")


def most_concerning(values: list[str]) -> str | None:
    """Return the category of an exam from those of its breasts; None without any."""
    return max(values, key=RISING.index) if values else None


def filler(word: str, language: Language) -> bool:
    """Return whether a word may stand between the name of a category and its value."""
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
        or language["changed"].fullmatch(word) is not None
    )


def _in_density(word: str, language: Language) -> bool:
    return language["density_words"].fullmatch(word) is not None


def _category(value: str) -> str:
    value = str(_SPELT.index(value.lower())) if value.lower() in _SPELT else value
    value = value.upper().replace(" ", "")
    roman = value.rstrip("ABC")
    value = ROMAN.get(roman, roman) + value[len(roman) :]
    return value if value[0] == "4" else value[0]
