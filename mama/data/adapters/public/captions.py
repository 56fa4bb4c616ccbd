"""Reports in words of tables: density, findings and BI-RADS by the templates of configs/captions.

The texts are rendered labels, so a model trained on them is template-supervised. Pathology is never
rendered: a radiologist does not know it when the report is written.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from mama.config.base import Section
from mama.config.load import build, read_yaml
from mama.data.studies import Laterality

SIDES: dict[Laterality, str] = {"L": "left", "R": "right"}
FOLDER = Path(__file__).parents[4] / "configs" / "captions"


class Captions(Section):
    """Templates of one language."""

    density: dict[str, list[str]]
    """Sentences by density category."""
    findings: dict[str, str]
    """Names of findings with their articles."""
    finding: list[str]
    """Sentences on one finding."""
    normal: list[str]
    """Sentences on a breast without findings."""
    birads: dict[str, list[str]]
    """Sentences by BI-RADS category."""


@dataclass(frozen=True)
class Finding:
    """One finding: its kind, a key of `Captions.findings`, and adjectives that describe it."""

    kind: str
    words: tuple[str, ...] = ()


@dataclass
class Breast:
    """One breast: its BI-RADS category and findings, where the set describes them.

    `described` says whether no findings means that there are none.
    """

    birads: str | None = None
    cancer: bool | None = None
    suspicious: bool | None = None
    findings: list[Finding] = field(default_factory=list)
    described: bool = False


@cache
def english() -> Captions:
    """Return the English templates."""
    path = FOLDER / "en.yaml"
    return build(Captions, read_yaml(path), str(path))


def render(key: str, density: str | None, breasts: Mapping[Laterality, Breast]) -> str | None:
    """Return the report of one study, None if nothing is known of it.

    Args:
        key: selects the paraphrases; the same key always gets the same wording.
        density: density category of the study.
        breasts: breasts that are described.
    """
    words = english()
    sentences = _one(words.density.get(density or "", ()), key, "density")
    for side, breast in sorted(breasts.items()):
        texts: list[str] = []
        for number, finding in enumerate(dict.fromkeys(breast.findings)):
            template = _one(words.finding, f"{key} {side}", f"finding {number}")
            texts += [text.replace("{finding}", _phrase(finding)) for text in template]
        if breast.described and not breast.findings:
            texts += _one(words.normal, f"{key} {side}", "normal")
        texts += _one(words.birads.get(breast.birads or "", ()), f"{key} {side}", "birads")
        sentences += [text.replace("{side}", SIDES[side]) for text in texts]
    return " ".join(sentences) or None


def kinds(findings: Iterable[Finding]) -> tuple[str, ...]:
    """Return the kinds of findings, each once, in alphabetical order."""
    return tuple(sorted({finding.kind for finding in findings}))


def _phrase(finding: Finding) -> str:
    """Return a finding with descriptors behind the article, such as `an oval, dense mass`."""
    name = english().findings[finding.kind]
    described = ", ".join(dict.fromkeys(finding.words))
    first, _, rest = name.partition(" ")
    if not described:
        return name
    if first not in ("a", "an"):
        return f"{described} {name}"
    return f"{'an' if described[0] in 'aeiou' else 'a'} {described} {rest}"


def _one(choices: Sequence[str], key: str, what: str) -> list[str]:
    if not choices:
        return []
    digest = hashlib.blake2b(f"{key}\0{what}".encode(), digest_size=8).digest()
    return [choices[int.from_bytes(digest) % len(choices)]]
