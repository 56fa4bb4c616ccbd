"""Texts whose heat maps are scored: sentences of the image's own report, and phrases of ours."""

from collections.abc import Iterable

from mama.data.reports.findings import KINDS, terms
from mama.data.reports.language import codes, load_language, recognise
from mama.data.reports.read import EARLIER
from mama.data.studies import Laterality, Study

# By the kind of finding that a box's label names, such as "focal_asymmetry".
PHRASES = {
    "mass": "A suspicious mass is seen.",
    "calcification": "Suspicious calcifications are seen.",
    "asymmetry": "A suspicious asymmetry is seen.",
    "distortion": "An architectural distortion is seen.",
}
OTHER_PHRASE = "A suspicious finding is seen."


def phrases(labels: Iterable[str]) -> tuple[str, ...]:
    """Return the phrases of the labels of an image's boxes, each once, in alphabetical order."""
    found: set[str] = set()
    for label in labels:
        named = {phrase for kind, phrase in PHRASES.items() if kind in label.lower()}
        found |= named or {OTHER_PHRASE}
    return tuple(sorted(found))


def finding_sentences(study: Study, side: Laterality | None, labels: Iterable[str]) -> list[str]:
    """Return the report's sentences on findings in a breast; all breasts if `side` is None.

    They state or suspect a mass, calcification, asymmetry or distortion: one of the kinds that the
    labels of boxes name or, if none does, any. Those on an earlier exam, and those whose breast is
    unknown, are left out. None is found in a language without a table.
    """
    code = recognise(" ".join(sentence.text for sentence in study.sentences))
    if code not in codes():
        return []
    language = load_language(code)
    stated: dict[str, set[str]] = {}
    for sentence in study.about(side):
        if sentence.section not in EARLIER and (side is None or sentence.side is not None):
            found = terms(sentence.text, language)
            kinds = {term.kind for term in found if term.polarity != "absent"}
            stated[sentence.text] = kinds.intersection(KINDS)
    marked = {kind for label in labels for kind in KINDS if kind in label.lower()}
    of_boxes = [text for text, kinds in stated.items() if kinds & marked]
    return of_boxes or [text for text, kinds in stated.items() if kinds]
