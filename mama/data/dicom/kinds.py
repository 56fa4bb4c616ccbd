"""Kind of an object: whether it is a mammogram for reading, and which special one.

The decision rests on the header alone, so that no pixels of other objects are read.
"""

import re

from mama.config.ingest import Kind
from mama.data.dicom.fields import Fields
from mama.data.dicom.reasons import Reason

STORAGE = "1.2.840.10008.5.1.4.1.1"
PROCESSING = {f"{STORAGE}.1.2.1", f"{STORAGE}.13.1.5"}
TOMOSYNTHESIS = {f"{STORAGE}.13.1.3", f"{STORAGE}.13.1.4"}
# Reports, key notes, presentation states, segmentations, waveforms and encapsulated documents.
NO_IMAGES = tuple(f"{STORAGE}.{part}" for part in ("88.", "11.", "66", "104.", "9.", "481.", "30"))
SECONDARY = f"{STORAGE}.7"
DIGITISED_FILM = "DF"  # ConversionType

# View modifiers of DICOM context group 4015, in SNOMED's old (SRT) and new (SCT) coding.
MODIFIERS: dict[str, Kind] = {
    "R-102D6": "magnification",
    "399163009": "magnification",
    "R-102D7": "spot",
    "399055006": "spot",
    "R-102D5": "implant_displaced",
    "399209000": "implant_displaced",
}
SPECIMEN = {"G-8310", "127457009"}
MAGNIFIED = 1.4  # factor; contact views have 1.0 to 1.2

_SYNTHETIC = re.compile(
    r"GENERATED_2D|(?<![A-Z])SYNTH(?!ESIS)|C-?VIEW|V-?PREVIEW|INSIGHT ?2D|INTELLIGENT ?2D"
    r"|S-?VIEW|\bS2D\b"
)
_TOMOSYNTHESIS = re.compile(r"TOMO|\bDBT\b|\bBTO\b|\bSLICE|\bSLAB")
_STEREOTACTIC = re.compile(r"STEREO|SCOUT|NEEDLE|WIRE ?LOC|\b(BIOPSY|BX)\b|LOCALI[SZ]ATION")
# "Post stereo biopsy" is an ordinary mammogram of a breast that was biopsied before.
_EARLIER_BIOPSY = re.compile(
    r"\b(?:POST|AFTER|PRE|PRIOR|PREVIOUS|STATUS|S/P|HX|HISTORY)\b[ -]?"
    r"(?:[A-Z]+ ){0,3}?(?:BIOPSY|BX)\b"
)
_SPECIMEN = re.compile(r"SPECIMEN")
_PHANTOM = re.compile(r"PHANTOM|\bQC\b|QUALITY CONTROL|\bACR TEST")
# A page about the dose or by a CAD, not "low dose" or "screening with CAD".
_PAGE = r"(REPORT|PAGE|SUMMARY|SHEET|INFO\w*|RECORD|RESULTS?|OVERLAYS?|MARKS?)"
_SCREEN = re.compile(
    rf"SCREEN ?SAVE|SCREEN ?SHOT|SCREEN ?CAPTURE|^ *(DOSE|CAD) *$|\b(DOSE|CAD) {_PAGE}\b"
    rf"|\bREPORT PAGE|\b{_PAGE} (OF )?DOSE\b"
)
_MASTECTOMY = re.compile(r"MASTECTOMY")
_WORDS: tuple[tuple[re.Pattern[str], Kind], ...] = (
    (re.compile(r"\bMAG(NIF|\b|\d)"), "magnification"),
    (re.compile(r"\bSPOT"), "spot"),
    (re.compile(r"IMPLANT[ -]DISPL|EKLUND"), "implant_displaced"),
    (_MASTECTOMY, "post_mastectomy"),
)


def exclusion(fields: Fields) -> Reason | None:
    """Return the reason for which an object is no mammogram for reading; None if it is one."""
    sop, modality = fields.text("SOPClassUID"), fields.upper("Modality")
    words, kind = _words(fields), _image_type(fields)
    if not fields.number("Rows") or sop.startswith(NO_IMAGES):
        return "no-image"
    if modality not in ("MG", ""):
        breast = "BREAST" in fields.upper("BodyPartExamined")
        return "other-modality" if breast and modality in ("CR", "DX") else "not-a-mammogram"
    digitised = fields.upper("ConversionType") == DIGITISED_FILM
    if (sop == SECONDARY or sop.startswith(f"{SECONDARY}.")) and not digitised:
        return "secondary-capture"
    if _SCREEN.search(words) or "SCREEN SAVE" in kind:
        return "secondary-capture"
    if fields.upper("QualityControlImage") in ("YES", "BOTH") or _PHANTOM.search(words):
        return "phantom"
    if _PHANTOM.search(fields.upper("PatientID").replace("_", " ")):
        return "phantom"
    if {code for code, _ in fields.codes("ViewCodeSequence")} & SPECIMEN or (
        _SPECIMEN.search(f"{words} {kind}") or fields.codes("SpecimenDescriptionSequence")
    ):
        return "specimen"
    if _STEREOTACTIC.search(_EARLIER_BIOPSY.sub("", f"{words} {kind}")):
        return "stereotactic"
    if fields.upper("PresentationIntentType") == "FOR PROCESSING" or sop in PROCESSING:
        return "for-processing"
    if sop in TOMOSYNTHESIS or (
        not _SYNTHETIC.search(f"{kind} {words}") and _TOMOSYNTHESIS.search(kind)
    ):
        return "tomosynthesis"
    return "multi-frame" if (fields.number("NumberOfFrames") or 1) > 1 else None


def special_kinds(fields: Fields) -> frozenset[Kind]:
    """Return the special kinds that a mammogram belongs to."""
    codes = fields.modifiers("ViewCodeSequence", "ViewModifierCodeSequence")
    found = {MODIFIERS[code] for code, _ in codes if code in MODIFIERS}
    view = fields.upper("ViewPosition").replace("_", " ").replace("-", " ")
    words = " ".join([_words(fields), view, *(meaning for _, meaning in codes)])
    found |= {kind for pattern, kind in _WORDS if pattern.search(words)}
    if re.search(r"(CC|ML|MLO|LM|LMO) ?ID$", view):
        found.add("implant_displaced")
    if (fields.number("EstimatedRadiographicMagnificationFactor") or 1) >= MAGNIFIED:
        found.add("magnification")
    if _SYNTHETIC.search(f"{_image_type(fields)} {words}"):
        found.add("synthetic")
    if fields.upper("PatientSex") == "M":
        found.add("male")
    return frozenset(found)


def _image_type(fields: Fields) -> str:
    return " ".join(value.upper() for value in fields.values("ImageType"))


def _words(fields: Fields) -> str:
    """Return the descriptions of series and protocol, in upper case."""
    names = ("SeriesDescription", "ProtocolName", "AcquisitionDeviceProcessingDescription")
    return " ".join(fields.upper(name).replace("_", " ") for name in names)
