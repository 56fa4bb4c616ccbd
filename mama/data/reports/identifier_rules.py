"""Patterns of identifiers in reports; each takes time linear in the text."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import yaml

from mama.data.reports.language import codes

# Words inside a name: "van der Berg".
_LEADING = "van|von|de|der|den|del|della|di|da|dos|do|la|le|el|bin|al|ten|zu|st|saint"
LEADING = frozenset(_LEADING.split("|"))
# Capitals of the Latin, Greek and Cyrillic scripts; others have none.
_UPPER = f"[{''.join(chr(code) for code in range(0x530) if chr(code).isupper())}]"
_UNCASED = r"[\u0590-\u06ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]"
_PART = (
    rf"(?:{_UPPER}(?:\.-?|(?![\w'’]))|{_UPPER}[\w'’]{{1,30}}(?:-{_UPPER}?[\w'’]{{1,30}})?"
    rf"|\b(?:{_LEADING})\b-?)"
)
_NAME = rf"{_PART}(?:,?[ ]{{0,2}}{_PART}){{0,5}}"
_DAY, _MONTH, _YEAR = r"(?:0?[1-9]|[12]\d|3[01])", r"(?:0?[1-9]|1[0-2])", r"(?:19|20)\d\d"
_NO_UNIT = r"(?!\s?(?:mm|cm|ml|%|x\s?\d))"


@dataclass(frozen=True)
class Rule:
    """One kind of identifier: its group `x` is replaced by the token.

    `named` groups are capitalised words, of which only those that can be a name are replaced, if
    they are at least `least`.
    """

    code: str
    token: str
    pattern: re.Pattern[str]
    named: bool = False
    least: int = 1


@cache
def _table() -> dict[str, list[str]]:
    path = files("configs") / "languages" / "identifiers.yaml"
    return yaml.safe_load(path.read_text(encoding="utf-8"))


@cache
def ordinary(language: str | None) -> frozenset[str]:
    """Return words that are no names: those of a language's table, or of all, in lower case."""
    found = set(_table()["ordinary"])
    lists = [_table()["months"], _table()["numbers"], _table()["labels"], _table()["phones"]]
    for code in (language,) if language in codes() else codes():
        table = yaml.safe_load(
            (files("configs") / "languages" / f"{code}.yaml").read_text(encoding="utf-8")
        )
        nested = [value for value in table.values() if isinstance(value, dict)]
        lists += [value for value in table.values() if isinstance(value, list)]
        lists += [v for mapping in nested for v in mapping.values() if isinstance(v, list)]
    phrases = [phrase for phrases in lists for phrase in phrases]
    found |= {word.lower() for phrase in phrases for word in re.findall(r"[^\W\d_]+", phrase)}
    return frozenset(found)


def _any(name: str) -> str:
    entries = sorted(_table()[name], key=len, reverse=True)
    return "|".join(re.escape(entry).replace(r"\ ", r"\s") for entry in entries)


def _rule(
    code: str, *parts: str, caseless: bool = False, named: bool = False, least: int = 1
) -> Rule:
    token = f"[{code.partition('_')[0].upper().replace('YEAR', 'DATE')}]"
    pattern = re.compile("".join(parts), re.IGNORECASE if caseless else 0)
    return Rule(code, token, pattern, named, least)


@cache
def rules(language: str | None = None) -> tuple[Rule, ...]:
    """Return all rules in the order in which they apply to a language."""
    return (*_contacts(), *_labelled(), *_dates(), *_numbers(), *_names(language))


def _contacts() -> list[Rule]:
    streets = f"{_any('streets')}|{_any('streets').upper()}"
    state = r",?\s[A-Z]{2}\s\d{5}(?:-\d{4})?|,?\s[A-Z]{1,2}\d[A-Z\d]?\s\d[A-Z]{2}"
    small = rf"de|du|des|la|las|los|del|della|di|da|do|dos|le|l'|d'|{_UPPER}[\w'’.-]{{1,20}}"
    return [
        _rule("url", r"(?<!\w)(?P<x>(?:https?://|www\.)[^\s<>\[\]]{3,300})"),
        _rule("email", r"(?<![\w.+-])(?P<x>[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4})"),
        _rule(
            "address",
            rf"(?<!\w)(?:{_any('addresses')})\s?[:=]\s{{0,3}}(?P<x>[^\s\[][^\n\[]{{3,100}})",
            caseless=True,
        ),
        _rule("address", r"(?<!\w)(?P<x>P\.?\s?O\.?\sBox\s\d{1,8})(?!\w)", caseless=True),
        _rule("address", rf"(?<![\w.,])(?P<x>\d{{4}}\s[A-Z]{{2}}\s{_UPPER}[\w-]{{2,25}})(?!\w)"),
        _rule(
            "address",  # 12 Oak Street, Springfield, IL 62701
            rf"(?<![\w.])(?P<x>\d{{1,5}}[A-Za-z]?\s(?:(?:[NSEW]\.?|{_UPPER}[\w'’.]{{1,20}})\s){{1,4}}",
            rf"(?:{streets})(?!\w)\.?(?:,?\s(?:Apt|Suite|Unit|#)\.?\s?\w{{1,5}})?",
            rf"(?:,\s{_UPPER}[\w'’. ]{{1,30}})?(?:,\s{_UPPER}[\w ]{{1,20}})?(?:{state})?)",
        ),
        _rule(
            "address",  # Hauptstraße 12, 10115 Berlin
            rf"(?<!\w)(?P<x>(?:{_UPPER}[\w-]{{2,25}}\s){{0,2}}{_UPPER}[\w-]{{1,25}}?-?\s?",
            rf"(?i:{_any('street_ends')})\s\d{{1,4}}\s?[a-z]?",
            rf"(?:,?\s(?:D-)?\d{{4,5}}(?:\s[A-Z]{{2}})?\s{_UPPER}[\w-]{{1,30}})?)(?!\w)",
        ),
        _rule(
            "address",  # Am Alten Markt 3, 50667 Köln
            rf"(?<!\w)(?P<x>(?:{_UPPER}[\w-]{{1,25}}\s){{1,4}}\d{{1,4}}[a-z]?,\s(?:D-)?\d{{5}}",
            rf"\s{_UPPER}[\w-]{{1,30}})(?!\w)",
        ),
        _rule(
            "address",  # 12 rue de la Paix, 75002 Paris
            rf"(?<!\w)(?P<x>(?:\d{{1,4}}(?:\s(?:bis|ter))?,?\s)?(?:{_any('ways')})\s",
            rf"(?:(?:{small})\s?){{1,6}}(?:,?\s?(?:n[º°.]?\s?)?\d{{1,4}})?",
            rf"(?:,?\s\d{{4,5}}(?:-\d{{3}})?\s{_UPPER}[\w-]{{1,30}})?)(?<=\w)(?!\w)",
        ),
    ]


def _dates() -> list[Rule]:
    month = rf"(?:{_any('months')})\.?"
    named = "|".join(name for name in _table()["months"] if len(name) > 3)
    short = r"(?:Jan|Feb|Apr|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
    ordinal = r"(?:st|nd|rd|th|\.|º|er)?"
    joint = r"(?:and|und|y|et|e|en|to|through)"
    years = rf"{_YEAR}(?:(?:,|\s?[-–/]|,?\s{joint})\s?{_YEAR}){{0,6}}"
    return [
        _rule(
            "date",  # 2024-03-01 14:22
            rf"(?<![\w./-])(?P<x>{_YEAR}[-/.]{_MONTH}[-/.]{_DAY}",
            r"(?:[T ]\d\d:\d\d(?::\d\d)?)?)(?![\w/-])",
        ),
        _rule(
            "date",  # 03/01/2024, 1.3.24
            r"(?<![\w./-])(?P<x>\d{1,2}(?P<s>[-/.])\s?\d{1,2}(?P=s)\s?",
            rf"(?:{_YEAR}|\d\d)){_NO_UNIT}(?![\w/-]|\.\d)",
        ),
        _rule("date", rf"(?<![\w./-])(?P<x>{_MONTH}/{_YEAR})(?![\w/-])"),
        _rule(
            "date",  # on 3/14
            rf"(?<!\w)(?:on|dated)\s(?P<x>{_MONTH}/{_DAY})(?![\w/-]|\s(?:of|view|image|projection))",
            caseless=True,
        ),
        _rule("date", rf"(?<!\w)(?i:le|du|del|el|il|dal|em|op)\s(?P<x>{_DAY}/{_MONTH})(?![\w/-])"),
        _rule("date", rf"(?<!\w)(?i:vom|am|zum|bis)\s(?P<x>{_DAY}\.\s?{_MONTH}\.)(?!\d)"),
        _rule(
            "date",  # 3 mars 2019, March 3, 2019, March 2019
            rf"(?<![\w./-])(?P<x>{_DAY}{ordinal}\s?(?:de\s|of\s)?[ -]?{month},?",
            r"(?:\s(?:de|del|of))?",
            rf"[ -]?(?:{_YEAR}|'?\d\d(?!\d|\s?(?:mm|cm)))",
            rf"|{month}\s['’]\d\d|{month}\s{_DAY}(?:st|nd|rd|th)?,?\s{_YEAR}|{month}\s(?:de\s|del\s)?{_YEAR})(?!\w)",
            caseless=True,
        ),
        _rule(
            "date",  # 12 mars, March 3rd, Jan 5; not "may 2" or "mar"
            rf"(?<![\w./-])(?P<x>{_DAY}{ordinal}\s(?:de\s|of\s)?(?:(?i:{named})|{short})",
            rf"|(?:(?i:{named})|{short}\.?)\s{_DAY}(?:st|nd|rd|th)?{_NO_UNIT}(?![.,]\d))(?!\w)",
        ),
        _rule(
            "date",  # HL7: 20240301, with a time of day or without
            rf"(?<!\w)(?P<x>{_YEAR}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])",
            r"(?:\d{4}(?:\d\d)?)?)(?!\w)",
        ),
        _rule(
            "year",  # since 2019
            rf"(?<!\w)(?:(?:{_any('since')})(?:\s(?:the|year|jahr|l'année|año|anno))?",
            rf"|\[DATE\],?(?:\s{joint})?)\s?[:,(.]?\s?(?P<x>{years})(?!\w){_NO_UNIT}",
            caseless=True,
        ),
    ]


def _labelled() -> list[Rule]:
    word = r"(?:number|no|nr|num|id|#|nº|n°)?(?:\(s\))?"
    colon = rf"\s?{word}\.?\s?[:=#]\s?|\.?\s{word}\.?\s?"
    return [
        _rule("id", r"(?<![\w.-])(?P<x>\d{3} \d{3} \d{4})(?![\w-])"),  # an NHS number
        _rule("id", r"(?<!\w)(?P<x>[A-Z]{6}\d\d[A-Z]\d\d[A-Z]\d{3}[A-Z])(?!\w)"),  # a tax number
        _rule(
            "id",
            rf"(?<!\w)(?:{_any('numbers')})(?:{colon})(?P<x>[A-Z]{{0,5}}[-/]?\d[\w./-]{{2,24}})(?!\w)",
            _NO_UNIT,
            caseless=True,
        ),
    ]


def _numbers() -> list[Rule]:
    years = _any("years")
    return [
        _rule("phone", r"(?<![\w.])(?P<x>0\d(?:[ .]\d\d){4})(?![\w])"),
        _rule("id", r"(?<![\w.])(?P<x>\d{1,5}(?:\.\d{1,40}){5,20})(?![\w.]\d)"),  # a UID
        _rule("url", r"(?<![\w.])(?P<x>\d{1,3}(?:\.\d{1,3}){3})(?![\w.]\d|\w)"),
        _rule("id", r"(?<![\w-])(?P<x>\d{3}-\d\d-\d{4})(?![\w-])"),
        _rule(
            "phone",
            rf"(?<!\w)(?:{_any('phones')})\.?\s?(?:(?:number|no|nr)\.?\s?)?[:=]?\s?",
            r"(?P<x>\+?\(?\d(?:[\d()/-]|\s(?=[\d(])|\.(?=\d)){1,19}\d)(?!\w)",
            caseless=True,
        ),
        _rule(
            "phone",
            r"(?<![\w.])(?P<x>(?:\+?1[-. ])?(?:\(\d{3}\)\s?|\d{3}[-. ])\d{3}[-. ]\d{4})(?!\w)",
        ),
        _rule("phone", r"(?<![\w.])(?P<x>(?:\+|00)\d{1,3}(?:[\s./()-]{0,2}\d){6,13})(?!\w)"),
        _rule(
            "phone",
            r"(?<![\w.])(?P<x>\(?0\d{1,4}\)?(?:[\s/-]\d{2,8}){1,5})(?!\w)",
            r"(?:(?<=\d{4})|(?<=\d\d[\s/-]\d\d))",
        ),
        _rule("id", r"(?<![\w.,-])(?P<x>[A-Z]{0,4}\d{7,20})(?!\w|[.,]\d)"),
        _rule(
            "age",
            rf"(?<![\w.,])(?P<x>9\d|1[0-2]\d)(?=[\s-]{{0,2}}(?:{years})(?!\w))",
            caseless=True,
        ),
        _rule(
            "age",
            r"(?<!\w)(?:age|aged|alter|edad|âge|età|leeftijd|idade)\s?:?\s?",
            r"(?P<x>9\d|1[0-2]\d)(?!\w|[.,]\d)",
            caseless=True,
        ),
    ]


def _names(language: str | None) -> list[Rule]:
    # In Spanish and Portuguese MD is the right breast.
    degrees = r"M\.D\.?" if language in ("es", "pt") else r"M\.?D\.?"
    roles = "|".join((_any("roles"), _any("roles").title()))
    born = r"geb(?:oren)?|née?|born|d\.?o\.?b|nat[ao]|nascid[ao]|nacid[ao]"
    seen = r"(?:is|was)\s(?:an?\s\d|seen|examined|referred)|present(?:s|ed)\s(?:for|with|today)"
    title = r"(?:(?i:dr|mr|mrs|ms|prof|dra|dott)\.?\s)?"
    patient = r"patient|patientin|paciente|patiente|paziente|patiënte?|by|with|informed|notified"
    patient += "|daughter|son|husband|wife|mother|sister"
    word = rf"{_UPPER}[a-zà-ÿ'’]{{1,30}}"
    signed = rf"{_UPPER}[\w'’.-]{{0,30}}(?:[ ]{_UPPER}[\w'’.-]{{0,30}}){{0,3}}"
    return [
        _rule(
            "place",
            rf"(?<!\w)(?P<x>(?:{_UPPER}[\w.'’-]{{1,25}}\s){{1,3}})(?=(?:{_any('places')})(?!\w))",
            named=True,
        ),
        _rule("name_hl7", r"(?<!\w)(?P<x>[^\W\d_]{2,40}(?:\^[^\W\d_]{0,40}){1,5})"),
        _rule(
            "name_label",
            rf"(?<!\w)(?i:{_any('labels')})(?:[\s.]{{0,20}}[:=：]\s{{0,3}}|\s[-–]\s)",
            rf"{title}(?P<x>{_NAME}|{_UNCASED}{{2,20}})",
            named=True,
        ),
        _rule(
            "name_signed",
            rf"(?<!\w)(?i:{_any('signers')})\s?[:.]?\s{{1,3}}{title}(?P<x>{_NAME})",
            named=True,
        ),
        _rule(
            "name_title",
            rf"(?<![\w-])(?:(?i:{_any('doctors')})|{_any('titles')}|MRS|MR(?=\.))\.?\s{{0,2}}",
            rf"(?:med\.\s?|phil\.\s?|univ\.\s?|(?i:dr)\.?\s?){{0,3}}(?P<x>{_NAME})",
            named=True,
        ),
        _rule(
            "name_title",
            r"(?<![\w-])(?i:drs?|dra|prof|dott)\.?\s(?P<x>[a-zà-ÿ][a-zà-ÿ'’-]{2,30})(?!\w)",
            named=True,
        ),
        _rule(
            "name_degree",
            rf"(?<!\w)(?P<x>{signed})",
            rf"(?=,?\s(?:{degrees}|D\.O\.|FRCR|FACR|MBBS|Ph\.?D\.?|R\.?N\.?|RT\(R\)|{roles})(?!\w))",
            named=True,
        ),
        _rule(
            "name_patient",  # Erika Müller, geb.
            rf"(?<!\w)(?P<x>{signed})(?=,?\s(?i:{born})(?!\w))",
            named=True,
        ),
        _rule(
            "name_patient",
            rf"(?<!\w)(?i:{patient}|called|contacted)\s(?P<x>{word}(?:\s{_UPPER}\.)?\s{word})",
            named=True,
            least=2,
        ),
        _rule(
            "name_patient",
            rf"(?<!\w)(?P<x>{word}(?:\s{_UPPER}\.?)?\s{word}|[A-Z]{{2,20}}\s[A-Z]{{2,20}})(?=,?\s(?:{seen}))",
            named=True,
            least=2,
        ),
        _rule(
            "name_patient",
            r"(?<!\w)(?i:patient)\s(?P<x>[A-Z]{2,20},\s[A-Z]{2,20}(?:\s[A-Z]\b)?)(?!\w)",
            named=True,
        ),
    ]
