"""Meanings of coded cells, in the spellings that hospitals and public sets use.

Each function returns None for a cell without meaning and raises `CodeError` for an unknown code.
"""

import re
from datetime import date, datetime

from mama.data.studies import Laterality, Split

# What databases, pandas, spreadsheets and people write where there is no value: words in any
# brackets, and those that mean so only behind a sign, such as \\N and #NV. Signs alone are none.
NOTHING = frozenset(["", "null", "nan", "none", "na", "nat", "nil", "ka", "undefined", "leer"])
ERRORS = frozenset(["n", "nv", "ref", "value", "name", "div0", "num", "bezug", "wert", "zahl"])
_SIGNS = re.compile(r"[\s.,;:!?#*/\\\[\](){}<>'\"_–—-]+")
DENSITIES = {"1": "A", "2": "B", "3": "C", "4": "D", "I": "A", "II": "B", "III": "C", "IV": "D"}
YES = frozenset(["1", "yes", "y", "true", "t", "ja", "j", "oui", "si", "sí", "sim"])
NO = frozenset(["0", "no", "n", "false", "f", "nein", "non", "nee", "não"])
LEFT = frozenset(
    ["l", "left", "lt", "links", "linke", "li", "gauche", "izquierda", "sinistra", "esquerda"]
)
RIGHT = frozenset(
    ["r", "right", "rt", "rechts", "rechte", "re", "droite", "derecha", "destra", "direita"]
)
BOTH = frozenset(["b", "both", "bilateral", "beidseits", "bds", "bi", "l+r", "l/r", "r/l"])
SPLITS: dict[str, Split] = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    # The project has no third part: validation is not the test, which stays unseen.
    "valid": "train",
    "validation": "train",
    "val": "train",
}
VALIDATION = frozenset(["valid", "validation", "val"])
VIEWS = ("CC", "MLO", "ML", "LM", "LMO", "XCCL", "XCCM", "XCC", "AT", "FB", "SIO", "CV")
VIEW_WORDS = {"CRANIOCAUDAL": "CC", "MEDIOLATERALOBLIQUE": "MLO", "MEDIOLATERAL": "ML"}
_DENSITY = re.compile(
    r"(?P<words>(?:(?:ACR|BI-?RADS|BREAST|DENSITY|TYPE|CATEGORY|COMPOSITION)[\s:_.=-]*)*)"
    r"(?P<code>[A-D]|[1-4](?:[.,]0+)?|I{1,3}|IV)"
)
_BIRADS = re.compile(
    r"(?:(?:ACR|BI-?\s?RADS|CATEGORY|CAT\.?|ASSESSMENT)[\s:_=-]*)*([0-6])(?:[.,]0+)?\s*([ABC]?)"
)
_DATE = re.compile(r"(\d{1,4})([-./])(\d{1,2})\2(\d{1,4})")


class CodeError(ValueError):
    """A code outside the list; `allowed` names the list."""

    def __init__(self, allowed: str):
        super().__init__("unknown value")
        self.allowed = allowed


def meaning(text: str) -> str | None:
    """Return the text of a cell, or None if it stands for nothing, such as NULL or NaN."""
    text = text.strip()
    word = _SIGNS.sub("", text[:40]).lower()
    return None if word in NOTHING or (text[0] in "#\\[<(" and word in ERRORS) else text


def density(text: str) -> str | None:
    """Return the BI-RADS density A, B, C or D of a code such as `3.0` or `ACR c`."""
    if meaning(text) is None:
        return None
    match = _DENSITY.fullmatch(text.strip().upper())
    if not match:
        raise CodeError("A, B, C, D")
    words, code = match["words"], match["code"].replace(",", ".").split(".")[0]
    # "BI-RADS 4" is an assessment in the wrong column; "ACR BI-RADS 4" is an old density.
    if code.isdigit() and "RADS" in words and not re.search("ACR|DENSITY|COMPOSITION", words):
        raise CodeError("A, B, C, D")
    return DENSITIES.get(code, code)


def birads(text: str) -> str | None:
    """Return the BI-RADS category, 0 to 6 or 4A to 4C, of a code such as `BI-RADS 4` or `2.0`."""
    if meaning(text) is None:
        return None
    match = _BIRADS.fullmatch(text.strip().upper())
    if not match or (match[2] and match[1] != "4"):
        raise CodeError("0, 1, 2, 3, 4, 4A, 4B, 4C, 5, 6")
    return match[1] + match[2]


def flag(text: str) -> bool | None:
    """Return the truth of a cell such as `1.0`, `yes` or `false`."""
    if meaning(text) is None:
        return None
    word = re.sub(r"[.,]0+$", "", text.strip().lower())
    if word not in YES | NO:
        raise CodeError("0, 1")
    return word in YES


def laterality(text: str) -> Laterality | None:
    """Return L or R of a cell that names one breast."""
    found = sides(text)
    if len(found) > 1:
        raise CodeError("L, R")
    return found[0] if found else None


def sides(text: str) -> tuple[Laterality, ...]:
    """Return the breasts that a cell names, such as `B` or `both`; none for an empty one."""
    if meaning(text) is None:
        return ()
    word = text.strip().lower().removesuffix(".")
    for names, found in ((LEFT, ("L",)), (RIGHT, ("R",)), (BOTH, ("L", "R"))):
        if word in names:
            return found  # type: ignore[return-value]
    raise CodeError("L, R, B")


def view(text: str) -> str | None:
    """Return the name of a view, such as MLO of `L-MLO` or `RMLO`."""
    if meaning(text) is None:
        return None
    word = re.sub(r"[\s_-]", "", text.upper())
    for name in (word, word[1:] if word[:1] in ("L", "R") else word):
        if (found := VIEW_WORDS.get(name, name)) in VIEWS:
            return found
    raise CodeError(", ".join(VIEWS))


def split(text: str) -> Split | None:
    """Return the part of a patient; validation counts as training."""
    if meaning(text) is None:
        return None
    word = text.strip().lower()
    if word not in SPLITS:
        raise CodeError("train, test")
    return SPLITS[word]


def day(text: str) -> str | None:
    """Return a date as YYYYMMDD; one whose day and month cannot be known apart is refused."""
    if meaning(text) is None:
        return None
    text = re.split(r"[T ]", text.strip())[0]
    try:
        if re.fullmatch(r"\d{8}", text):
            return _plain(datetime.strptime(text, "%Y%m%d").date())
        if match := _DATE.fullmatch(text):
            return _plain(_written(match[1], match[3], match[4], match[2]))
    except ValueError:
        pass
    raise CodeError("YYYY-MM-DD, YYYYMMDD, DD.MM.YYYY")


def _plain(date: date) -> str:
    return date.isoformat().replace("-", "")


def _written(first: str, second: str, third: str, mark: str) -> date:
    if len(first) == 4:
        return date(int(first), int(second), int(third))
    if len(third) != 4:
        raise ValueError
    a, b, year = int(first), int(second), int(third)
    if mark == "." or a > 12 or a == b:
        return date(year, b, a)
    if b > 12:
        return date(year, a, b)
    raise ValueError
