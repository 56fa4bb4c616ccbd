"""Word tables of the reports' languages (configs/languages), and the language of a report."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from typing import Any

import yaml

from mama.errors import ConfigError

FEW = 3  # frequent words that a report must have of a language
SHORTEST_STEM = 3  # letters; a shorter beginning is one of words of many languages
SHARE = 7  # one word of so many at least must be known
NEUTRAL = frozenset(
    ["mm", "cm", "bi", "rads", "birads", "acr", "cc", "mlo", "l", "r", "name", "date"]
)
# Letters beside a to z; Danish "højre" in a German text tells that it is none.
LETTERS = {
    "de": "äöüß",
    "en": "",
    "es": "áéíóúüñªº",
    "fr": "àâæçéèêëîïôœùûüÿ",
    "it": "àèéìíîòóùúªº",
    "nl": "áäèéêëíïóöúü",
    "pt": "áâãàçéêíóôõúüªº",
}
NEVER = re.compile(r"(?!)")
Words = re.Pattern[str]


@dataclass(frozen=True, eq=False)
class Language:
    """One language's table: each list of phrases as a pattern, or as a set of words.

    `code` is the file's name. `patterns` holds the lists, nested ones under "list.entry";
    `sections` gives the section of a heading, `words` the lists that are compared word by word.
    """

    code: str
    patterns: dict[str, Words]
    sections: dict[str, str]
    words: dict[str, frozenset[str]]
    letters: dict[str, tuple[str, ...]]
    acr: str

    def __getitem__(self, name: str) -> Words:
        return self.patterns[name]


def pattern(phrases: Iterable[str]) -> Words:
    """Compile phrases to one pattern of whole words that takes linear time.

    `*` stands for the rest of a word; a phrase after `=` must match in its case.
    """
    words: list[str] = []
    signs: list[str] = []
    for phrase in sorted(phrases, key=len, reverse=True):
        bare = phrase.lstrip("=")
        escaped = re.escape(bare).replace(r"\*", r"\w*").replace(r"\ ", r"\s")
        escaped = escaped.replace("'", "['’]") + (r"(?!\w)" if bare[-1:].isalnum() else "")
        exact = f"(?-i:{escaped})" if bare != phrase else escaped
        # A sign such as "?" may stand beside a word.
        (words if bare[:1].isalnum() else signs).append(exact)
    parts = [rf"(?<!\w)(?=\w)(?:{'|'.join(words)})"] if words else []
    return re.compile("|".join([*parts, *signs]), re.IGNORECASE) if words or signs else NEVER


@cache
def _folder() -> Traversable:
    return files("configs") / "languages"


@cache
def codes() -> tuple[str, ...]:
    """Return the codes of the languages that have a table."""
    names = [entry.name for entry in _folder().iterdir()]
    return tuple(sorted(n[:-5] for n in names if re.fullmatch(r"[a-z]{2}\.yaml", n)))


@cache
def _table(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((_folder() / f"{name}.yaml").read_text(encoding="utf-8")))


@cache
def load_language(code: str) -> Language:
    """Return the table of a language.

    Raises:
        ConfigError: there is no such table.
    """
    if code not in codes():
        raise ConfigError(
            "no table of this language",
            where="data.reports.language",
            fix=f"Choose auto or one of {', '.join(codes())}",
        )
    table = _table(code)
    patterns: dict[str, Words] = {}
    for name, value in table.items():
        if isinstance(value, list):
            patterns[name] = pattern(value)
        elif isinstance(value, dict) and name in ("density", "findings", "negation"):
            patterns |= {f"{name}.{key}": pattern(phrases) for key, phrases in value.items()}
    patterns["finding"] = pattern(p for phrases in table["findings"].values() for p in phrases)
    # The longest headings that two sections share belong to the first.
    sections: dict[str, str] = {}
    for section, headings in table["sections"].items():
        for heading in headings:
            sections.setdefault(heading, section)
    return Language(
        code=code,
        patterns=patterns,
        sections=sections,
        words={
            name: frozenset(word.lower() for word in table[name])
            for name in ("joins", "articles", "nouns", "exam_words", "abbreviations", "overall")
        },
        letters={side: tuple(letters) for side, letters in table["letters"].items()},
        acr=table["acr"],
    )


@cache
def _common() -> dict[str, frozenset[str]]:
    """Return the frequent words by language, of those with and those without a table."""
    others, tables = _table("others"), {code: _table(code) for code in codes()}
    words = {code: [*others.get(code, ()), *table["common"]] for code, table in tables.items()}
    words = others | words
    # Short reports hold few frequent words, but name a side, a breast and what is found.
    for code, table in tables.items():
        phrases = [*table["left"], *table["right"], *table["nouns"], *table["negation"]["before"]]
        phrases += [p for kind in table["findings"].values() for p in kind]
        phrases += [*table["generic"], *table["statements"]]
        words[code] = [*words[code], *(p for p in phrases if p.isalpha())]
        words[code] += [heading for headings in table["sections"].values() for heading in headings]
    return {code: frozenset(word.lower() for word in found) for code, found in words.items()}


@cache
def _stems() -> dict[str, tuple[str, ...]]:
    """Return the beginnings of words for sides and findings by language with a table."""
    stems = {}
    for code in codes():
        table = _table(code)
        phrases = [*table["left"], *table["right"], *table["generic"]]
        phrases += [phrase for kind in table["findings"].values() for phrase in kind]
        found = {p[:-1].lower() for p in phrases if p.endswith("*") and p[:-1].isalpha()}
        stems[code] = tuple(sorted(stem for stem in found if len(stem) > SHORTEST_STEM))
    return stems


def recognise(text: str) -> str:
    """Return the code of a report's language, "" if it cannot be known.

    The code may be of a language without a table (`codes`), or name a script, such as "han".
    """
    letters = [character for character in text if character.isalpha()][:2000]
    scripts = Counter(_script(letter) for letter in letters if letter > "ɏ")
    if scripts and scripts.total() * 3 > len(letters):
        return scripts.most_common(1)[0][0]
    words = Counter(
        word.lower()
        for word in re.findall(r"[^\W\d_]+", text[:20_000])
        if word.lower() not in NEUTRAL
    )
    known = {
        code: {
            word: n
            for word, n in words.items()
            if word in common or word.startswith(_stems().get(code, ()))
        }
        for code, common in _common().items()
    }
    # One word of several languages counts once; how often it stands decides between equals.
    scores = {code: len(found) - _foreign(words, code) for code, found in known.items()}
    ranks = {code: (scores[code], sum(found.values())) for code, found in known.items()}
    best, second = sorted(ranks, key=lambda code: ranks[code], reverse=True)[:2]
    score, total = scores[best], len(words)
    if ranks[best] == ranks[second]:
        return ""
    enough = score >= (min(FEW, -(-total // 6)) or 1) and score * SHARE >= total
    # One frequent word may be of any language.
    return best if enough and (score > 1 or total <= FEW) else ""


def _foreign(words: Counter[str], code: str) -> int:
    """Return the number of words with a letter that a language with a table does not use."""
    if code not in LETTERS:
        return 0
    return sum(any(c > "z" and c not in LETTERS[code] for c in word) for word in words)


def _script(letter: str) -> str:
    """Return the script of a letter in lower case: han, hiragana, cyrillic or greek."""
    name = unicodedata.name(letter, "other").split()[0].lower()
    return "han" if name == "cjk" else name
