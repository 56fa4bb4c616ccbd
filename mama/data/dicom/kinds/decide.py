"""Decision on an object: a mammogram for reading or not, and its special kinds.

The decision rests on the header alone, so that no pixels of other objects are read.
"""

from mama.config.ingest import Kind
from mama.data.dicom.fields import Fields
from mama.data.dicom.kinds import words
from mama.data.dicom.reasons import Reason
from mama.data.dicom.views import modifiers_of

STORAGE = "1.2.840.10008.5.1.4.1.1"
MAMMOGRAPHY = f"{STORAGE}.1.2"
PROCESSING = {f"{STORAGE}.1.2.1", f"{STORAGE}.13.1.5", f"{STORAGE}.1.1.1"}
TOMOSYNTHESIS = {f"{STORAGE}.13.1.3", f"{STORAGE}.13.1.4"}
# Computed and digital radiography, if the Modality says that it is of the breast.
RADIOGRAPHY = {f"{STORAGE}.1", f"{STORAGE}.1.1"}
# Reports, key notes, presentation states, segmentations, waveforms and encapsulated documents.
NO_IMAGES = tuple(f"{STORAGE}.{part}" for part in ("88.", "11.", "66", "104.", "9.", "481.", "30"))
SECONDARY = f"{STORAGE}.7"
COMPUTED_TOMOGRAPHY = f"{STORAGE}.2"  # in which tomosynthesis was stored before it had a class
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
# Descriptions of an image, and of its study.
OF_IMAGE = ("SeriesDescription", "ProtocolName")
OF_STUDY = (
    "StudyDescription",
    "PerformedProcedureStepDescription",
    "RequestedProcedureDescription",
)


def exclusion(fields: Fields) -> Reason | None:
    """Return the reason for which an object is no mammogram for reading; None if it is one.

    Descriptions of a study say less of an image than those of its series: only phantoms, specimens
    and biopsies are looked for in them, and a biopsy's study with a mammogram too is not left out.
    """
    return _foreign(fields) or _unfit(fields) or _raw(fields)


def _foreign(fields: Fields) -> Reason | None:
    """Return the reason for an object that is no image of the breast by its modality and class."""
    sop, modality = fields.text("SOPClassUID"), fields.upper("Modality")
    if not fields.number("Rows") or sop.startswith(NO_IMAGES):
        return "no-image"
    if modality not in ("MG", ""):
        breast = "BREAST" in fields.upper("BodyPartExamined")
        return "other-modality" if breast and modality in ("CR", "DX") else "not-a-mammogram"
    if sop == SECONDARY or sop.startswith(f"{SECONDARY}."):
        digitised = fields.upper("ConversionType") == DIGITISED_FILM
        return None if digitised else "secondary-capture"
    if sop in ("", MAMMOGRAPHY, *PROCESSING, *TOMOSYNTHESIS):
        return None
    if sop in RADIOGRAPHY and modality == "MG":
        return None
    if sop == COMPUTED_TOMOGRAPHY and words.TOMOSYNTHESIS.search(_texts(fields, OF_IMAGE)):
        return "tomosynthesis"
    return "not-a-mammogram"


def _unfit(fields: Fields) -> Reason | None:
    """Return the reason for an image of something else than a breast as it is read."""
    image, study = _texts(fields, OF_IMAGE), _texts(fields, OF_STUDY)
    kind, part = fields.plain("ImageType"), fields.plain("BodyPartExamined")
    if words.SCREEN.search(image) or "SCREEN SAVE" in kind:
        return "secondary-capture"
    if fields.upper("QualityControlImage") in ("YES", "BOTH"):
        return "phantom"
    if words.PHANTOM.search(f"{image}\n{study}\n{part}") or words.PHANTOM_NAME.search(
        _texts(fields, ("PatientID", "PatientName")).replace("^", " ")
    ):
        return "phantom"
    if words.WITH_MAMMOGRAM.search(study):
        study = ""
    if {code for code, _ in fields.codes("ViewCodeSequence")} & SPECIMEN or (
        words.SPECIMEN.search(f"{image}\n{kind}\n{study}\n{part}")
        or fields.codes("SpecimenDescriptionSequence")
    ):
        return "specimen"
    procedures = words.EARLIER_BIOPSY.sub("", f"{image}\n{kind}\n{study}")
    return "stereotactic" if words.STEREOTACTIC.search(procedures) else None


def _raw(fields: Fields) -> Reason | None:
    """Return the reason for an image of a breast that is not the one for reading."""
    sop, kind = fields.text("SOPClassUID"), fields.plain("ImageType")
    image, series = _texts(fields, OF_IMAGE), fields.plain("SeriesDescription")
    intent = fields.plain("PresentationIntentType")
    if sop in PROCESSING or "PROCESSING" in intent or words.RAW.search(f"{series}\n{kind}"):
        return "for-processing"
    computed = words.SYNTHETIC.search(_described(fields))
    slices = words.SLICES.search(image) or (
        words.VOLUME.search(series) and not words.TWO_DIMENSIONAL.search(series)
    )
    if sop in TOMOSYNTHESIS or (not computed and (words.TOMOSYNTHESIS.search(kind) or slices)):
        return "tomosynthesis"
    if words.CONTRAST.search(_described(fields)):
        return "contrast"
    return "multi-frame" if (fields.number("NumberOfFrames") or 1) > 1 else None


def special_kinds(fields: Fields) -> frozenset[Kind]:
    """Return the special kinds that a mammogram belongs to."""
    codes = fields.modifiers("ViewCodeSequence", "ViewModifierCodeSequence")
    found = {MODIFIERS[code] for code, _ in codes if code in MODIFIERS}
    view = fields.plain("ViewPosition").replace("-", " ")
    text = "\n".join([_described(fields), view, *(meaning for _, meaning in codes)])
    found |= {kind for pattern, kind in words.KINDS if pattern.search(text)}
    found |= modifiers_of(view.replace(" ", ""))
    for name in OF_IMAGE:
        found |= modifiers_of(fields.plain(name))
    if (fields.number("EstimatedRadiographicMagnificationFactor") or 1) >= MAGNIFIED:
        found.add("magnification")
    if words.SYNTHETIC.search(text):
        found.add("synthetic")
    if fields.upper("PatientSex") == "M":
        found.add("male")
    return frozenset(found)


def _texts(fields: Fields, names: tuple[str, ...]) -> str:
    """Return descriptions, one a line."""
    return "\n".join(fields.plain(name) for name in names)


def _described(fields: Fields) -> str:
    """Return all that says how an image was made."""
    names = (*OF_IMAGE, "AcquisitionDeviceProcessingDescription", "ImageType")
    return _texts(fields, names)
