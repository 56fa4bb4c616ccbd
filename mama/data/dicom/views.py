"""Laterality and view of a mammogram, from everything in the header that states them.

Codes come before free text. Fields that contradict each other are a conflict, which the caller
reports; a field of no meaning ("B", "LEFT?") is no statement.
"""

import re
from typing import NamedTuple

from mama.config.ingest import Kind
from mama.data.dicom.fields import Fields
from mama.data.studies import Laterality

# DICOM context group 4014: SNOMED's old (SRT), older (SNM3) and new (SCT) codes.
VIEW_CODES = {
    **dict.fromkeys(("R-10242", "Y-X1762", "399162004"), "CC"),
    **dict.fromkeys(("R-10226", "Y-X1765", "399368009"), "MLO"),
    **dict.fromkeys(("R-10224", "Y-X1763", "399260004"), "ML"),
    **dict.fromkeys(("R-10228", "Y-X1764", "399352003"), "LM"),
    **dict.fromkeys(("R-10230", "Y-X1766", "399099002"), "LMO"),
    **dict.fromkeys(("R-10244", "Y-X1767", "399196006"), "FB"),
    **dict.fromkeys(("R-102D0", "Y-X1768", "399188001"), "SIO"),
    **dict.fromkeys(("R-40AAA", "441555000"), "ISO"),
    **dict.fromkeys(("R-1024A", "Y-X1771", "399192008"), "XCCL"),
    **dict.fromkeys(("R-1024B", "Y-X1772", "399101009"), "XCCM"),
    **dict.fromkeys(("R-102CF", "399265009"), "XCC"),
}
VIEWS = sorted({*VIEW_CODES.values(), "AT"}, key=len, reverse=True)
# What the ACR's names of views have before and after: magnification, spot, rolled, displaced.
_BEFORE, _AFTER = "M|S|MS|SM|MAG|SPOT|ID", "ID|M|S|MS|SM|MAG|SPOT|R[LMIS]"
# "MLO" in "L-MLO", "RMLO", "RMMLO", "MLOID" and "MLO MAG", but not in the middle of a word; before
# short views such as AT a letter would make one of SAT.
_VIEW = re.compile(
    rf"(?:^|[^A-Z])([LR]?)[ _-]?((?:{_BEFORE})(?=X?CC|ML|LM))??[ _-]?"
    rf"({'|'.join(VIEWS)})(?:[_-]?({_AFTER}))?(?=$|[^A-Z])"
)
# "LAT" is lateral, not the axillary tail of a left breast, whose side stands apart: "L AT".
_LATERAL = re.compile(r"(?<![A-Z])LAT(?![A-Z])")
_MODIFIER: dict[str, Kind] = {"M": "magnification", "S": "spot", "I": "implant_displaced"}
_SPELLED: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"EXAGG\w* CRANIO[ -]?CAUDAL LAT|CRANIO[ -]?CAUDAL EXAGG\w* LAT"), "XCCL"),
    (re.compile(r"EXAGG\w* CRANIO[ -]?CAUDAL MED|CRANIO[ -]?CAUDAL EXAGG\w* MED"), "XCCM"),
    (re.compile(r"MEDIO[ -]?LATERAL OBLIQ|OBLIQUE MEDIO[ -]?LATERAL"), "MLO"),
    (re.compile(r"LATERO[ -]?MEDIAL OBLIQ"), "LMO"),
    (re.compile(r"CRANIO[ -]?CAUDAL"), "CC"),
    (re.compile(r"CAUDO[ -]?CRANIAL"), "FB"),
    (re.compile(r"MEDIO[ -]?LATERAL"), "ML"),
    (re.compile(r"LATERO[ -]?MEDIAL"), "LM"),
)
_SIDES: dict[str, Laterality] = {"L": "L", "LEFT": "L", "R": "R", "RIGHT": "R"}
# The article of "l'aisselle" is no side.
_LEFT = r"LEFT|LT|L(?!['’`´])|LINKS|LINKE[RS]?|GAUCHE|IZQUIERD[AO]|SINISTR[AO]|ESQUERD[AO]"
_RIGHT = r"RIGHT|RT|R|RECHTS|RECHTE[RS]?|DROITE?|DERECH[AO]|DESTR[AO]|DIREIT[AO]"
_SIDE_WORD = re.compile(rf"(?<![A-Z])(?:({_LEFT})|({_RIGHT}))(?![A-Z])")


class Placed(NamedTuple):
    """Laterality and view of an image; None where the header does not state them.

    Attributes:
        flipped: True if PatientOrientation says that the image is stored mirrored, as the standard
            allows: the chest wall of a left breast is on the right.
        conflicts: codes of `mama.data.adapters.notes` for fields that contradict each other.
    """

    laterality: Laterality | None
    view: str | None
    flipped: bool = False
    conflicts: tuple[str, ...] = ()


def place(fields: Fields) -> Placed:
    """Return the laterality and view of a mammogram."""
    laterality, side_conflict = _laterality(fields)
    view, view_conflict = _view(fields)
    conflicts = [
        name
        for name, found in (("side-conflict", side_conflict), ("view-conflict", view_conflict))
        if found
    ]
    return Placed(laterality, view, _flipped(fields, laterality), tuple(conflicts))


def view_of(text: str) -> str | None:
    """Return the view that a text names, in any spelling; None if it names none."""
    upper = text.upper()
    if match := _VIEW.search(_LATERAL.sub("", upper)):
        return match[3]
    return next((view for pattern, view in _SPELLED if pattern.search(upper)), None)


def modifiers_of(text: str) -> set[Kind]:
    """Return the special kinds that the letters beside a view name, as in RMMLO, MLO-ID or CCS."""
    found: set[Kind] = set()
    for match in _VIEW.finditer(text.upper()):
        letters = f"{match[2] or ''}{match[4] or ''}".replace("MAG", "M").replace("SPOT", "S")
        letters = re.sub("R[LMIS]$", "", letters)
        found |= {_MODIFIER[letter] for letter in letters if letter in _MODIFIER}
    return found


def side_of(text: str) -> Laterality | None:
    """Return the side that a text names alone; None if it names none or both."""
    upper = _LATERAL.sub("", text.upper())
    named = {match[1] for match in _VIEW.finditer(upper) if match[1]}
    named |= {"L" if match[1] else "R" for match in _SIDE_WORD.finditer(upper)}
    return _SIDES[named.pop()] if len(named) == 1 else None


def _laterality(fields: Fields) -> tuple[Laterality | None, bool]:
    """Return the side, and whether dedicated fields contradict each other."""
    frame = fields.shared("FrameAnatomySequence", "FrameLaterality")
    stated = (fields.upper("ImageLaterality"), frame.upper(), fields.upper("Laterality"))
    sides = [_SIDES[text] for text in stated if text in _SIDES]
    if from_view := side_of(fields.text("ViewPosition")):
        sides.append(from_view)
    if sides:
        return sides[0], len(set(sides)) > 1
    words = [fields.text(name) for name in ("SeriesDescription", "ProtocolName")]
    named = next((side for text in words if (side := side_of(text))), None)
    return named or _hung(fields), False


def _hung(fields: Fields) -> Laterality | None:
    """Return the side by the hanging of a mammogram: rows run from the chest wall to the nipple.

    A left breast has its chest wall on the left, so that its rows run in anterior direction.
    """
    rows: dict[str, Laterality] = {"A": "L", "P": "R"}
    return rows.get(_orientation(fields)[0][:1])


def _flipped(fields: Fields, laterality: Laterality | None) -> bool:
    """Return True if rows run the other way than the side's, and columns not to the side itself.

    Columns that do, as of a "left" breast with P and L, are those of the other breast, as hung.
    """
    hung = _hung(fields)
    contrary = laterality is not None and hung is not None and hung != laterality
    return contrary and str(laterality) not in _orientation(fields)[1]


def _orientation(fields: Fields) -> tuple[str, str]:
    """Return the directions of rows and columns; empty if they are not stated."""
    found = [value.upper() for value in fields.values("PatientOrientation")]
    if len(found) != 2 or not all(re.fullmatch("[APRLHF]{1,3}", one) for one in found):
        return "", ""
    return found[0], found[1]


def _view(fields: Fields) -> tuple[str | None, bool]:
    """Return the view, and whether code and free text contradict each other."""
    codes = [VIEW_CODES[code] for code, _ in fields.codes("ViewCodeSequence") if code in VIEW_CODES]
    meanings = [meaning for _, meaning in fields.codes("ViewCodeSequence")]
    texts = [fields.text("ViewPosition"), *meanings]
    stated = codes + [view for text in texts if (view := view_of(text))]
    if stated:
        return stated[0], len({_family(view) for view in stated}) > 1
    names = ("PatientOrientation", "SeriesDescription", "ProtocolName")
    return next((view for name in names if (view := view_of(fields.text(name)))), None), False


def _family(view: str) -> str:
    """Return the view without its exaggeration: an XCCL is often labelled CC in free text."""
    return "CC" if view.startswith("XCC") else view
