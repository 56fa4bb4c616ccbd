"""BI-RADS category and ACR density that a sentence states."""

import re
from functools import cache

from mama.data.reports.findings import negation_cues
from mama.data.reports.language import Language

# Rising concern, in the order in which the atlas takes the category of an exam from its breasts.
RISING = ("1", "2", "3", "6", "0", "4", "4A", "4B", "4C", "5")
_ROMAN = {"I": "1", "II": "2", "III": "3", "IV": "4", "V": "5", "VI": "6"}
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
_ARROW = r"\s*(?:→|->|=>)\s*"
_ONWARD = re.compile(
    rf"(?:(?P<arrow>{_ARROW})|\s(?:to|auf|à|a|para|naar)\s)(?:{_NAME}\s)?{_VALUE}", re.IGNORECASE
)
_NEXT = re.compile(rf"[\s:]{{0,3}}(?:{_NAME}\W{{0,3}})?{_VALUE}", re.IGNORECASE)
_FROM = re.compile(r"(?<!\w)(?:from|von|de|da|van)(?!\w)", re.IGNORECASE)
_NAMED_AFTER = re.compile(rf"\s(?:to|as|auf|à|a|para|naar)\s{_VALUE}\s\(?{_NAME}", re.IGNORECASE)
_FROM_TO = re.compile(
    r"(?<!\w)(?:from|von|de|da|van)\s(?:[^\W\d_]{3,}\s)?[A-Da-d1-4]"
    rf"(?:{_ARROW}|\s(?:to|auf|à|a|para|naar)\s)(?:[^\W\d_]{{3,}}\s)?([A-D]|[a-d]|[1-4])(?!\w)",
    re.IGNORECASE,
)
_ACR = re.compile(r"^\s?ACR\s", re.IGNORECASE)
_AFTER_NAME = re.compile(r"RADS(?:[®™]|\(R\))?\s$", re.IGNORECASE)
_SIDED = re.compile(r"\s?[:=–-]?\s?(?:[0-6]|IV|V|I{1,3})(?:\s?[A-C]|[a-c])?(?!\w)")
_PHRASE_END = re.compile(r"[.;:,(]")
_DENSITIES = ("1", "2", "3", "4")
_BEFORE = 40  # characters before a category that can deny or date it
_NEAR = 60  # characters between a negation and the density that it denies
_FEW = 4  # words between them
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
_NAMED = re.compile(r"ACR|BI", re.IGNORECASE)
_SHORT = re.compile(
    r"^[^\w(]*(?:\((?=[^\W\d_]))?(?:\d[.)]\s)?"
    rf"(?P<words>(?:[^\W\d_]+\W{{1,3}}){{0,6}}?[^\W\d_]?){_VALUE}"
)
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
    acr = "ACR" if language.acr == "assessment" else _ACR_CATEGORY
    names = f"{_NAME}|{_CATEGORY}|{acr}"
    return re.compile(
        rf"(?<!\w)(?P<name>{names})(?P<words>(?:[^\d;.]|{_ABBREVIATED}){{0,50}}?){_VALUE}",
        re.IGNORECASE,
    )


def birads(text: str, language: Language, expected: bool = False) -> list[str]:
    """Return the categories that a sentence gives, "0" to "6" or "4A" to "4C".

    Earlier categories ("previously BI-RADS 3", "downgraded from"), denied ones ("not BI-RADS 4")
    and those of density do not count.

    Args:
        text: one sentence or clause about one breast, or about the exam.
        language: table of its language.
        expected: a bare "Left: 2" is a category, since a heading says so.
    """
    values: list[str] = []
    end = 0  # of the category before
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
        if _denied_category(before, language):
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
        if all(_filler(word, language) for word in _WORD.findall(inside)):
            values.append(_category(match["value"]))
    if not values and (named := _NAMED_AFTER.search(text)):
        return [_category(named["value"])]
    if not values and expected and (short := _SHORT.match(text)):
        words = _WORD.findall(short["words"])
        density = language["density_words"].search(short["words"])
        if not density and all(_filler(word, language) for word in words):
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
    if (found or expected) and (named := _NAMED_LETTER.search(text)):
        return named[1].upper()
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
    return max(earlier, default=None)


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
    number = word[0].lower() == "acr" and value[0] in "1234I"
    if number and (language.acr == "assessment" or _AFTER_NAME.search(text[: word.start()])):
        return True
    sides = (*language.letters["left"], *language.letters["right"])
    return value in sides and _SIDED.match(text, letter.end("value")) is not None


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
        or language["changed"].fullmatch(word) is not None
    )


def _in_density(word: str, language: Language) -> bool:
    return language["density_words"].fullmatch(word) is not None


def _category(value: str) -> str:
    value = str(_SPELT.index(value.lower())) if value.lower() in _SPELT else value
    value = value.upper().replace(" ", "")
    roman = value.rstrip("ABC")
    value = _ROMAN.get(roman, roman) + value[len(roman) :]
    return value if value[0] == "4" else value[0]


def _density(value: str) -> str:
    number = _ROMAN.get(value, value)
    return "ABCD"[int(number) - 1] if number.isdigit() else number.upper()
