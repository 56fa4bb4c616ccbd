"""Header of a DICOM mammogram: identifiers, laterality, view and special kinds."""

from dataclasses import dataclass, field
from pathlib import Path

from mama.config.ingest import Kind
from mama.data.dicom.ages import age_band
from mama.data.dicom.fields import Fields
from mama.data.dicom.file import open_dataset, quiet
from mama.data.dicom.kinds import exclusion, special_kinds
from mama.data.dicom.reasons import ImageError
from mama.data.dicom.views import place
from mama.data.studies import Laterality

HEADER_FIELDS = [
    "AccessionNumber",
    "AcquisitionDate",
    "AcquisitionDeviceProcessingDescription",
    "BodyPartExamined",
    "BurnedInAnnotation",
    "ConversionType",
    "EstimatedRadiographicMagnificationFactor",
    "ImageLaterality",
    "ImageType",
    "ImagerPixelSpacing",
    "IssuerOfPatientID",
    "Laterality",
    "Manufacturer",
    "Modality",
    "NumberOfFrames",
    "PatientAge",
    "PatientBirthDate",
    "PatientID",
    "PatientName",
    "PatientOrientation",
    "PatientSex",
    "PerformedProcedureStepDescription",
    "PixelSpacing",
    "PresentationIntentType",
    "ProtocolName",
    "QualityControlImage",
    "RequestedProcedureDescription",
    "Rows",
    "SOPClassUID",
    "SOPInstanceUID",
    "SeriesDescription",
    "SharedFunctionalGroupsSequence",
    "SpecimenDescriptionSequence",
    "StudyDate",
    "StudyDescription",
    "StudyInstanceUID",
    "ViewCodeSequence",
    "ViewModifierCodeSequence",
    "ViewPosition",
]


@dataclass(frozen=True, slots=True)
class Header:
    """Header of a mammogram; `repr` omits identifiers and dates, which are empty if missing.

    Attributes:
        age: band of the patient's age, such as 50-59.
        kinds: special kinds of the image, such as magnification.
        spacing: of the detector's pixels in mm.
        flipped: True if the header says that the image is stored mirrored.
        remarks: codes of `mama.data.adapters.notes`, such as for fields that contradict each other.
    """

    patient: str = field(repr=False)
    issuer: str = field(repr=False)
    birth_date: str = field(repr=False)
    study: str = field(repr=False)
    image: str = field(repr=False)
    accession: str = field(repr=False)
    date: str = field(repr=False)
    laterality: Laterality | None
    view: str | None
    vendor: str | None
    spacing: float | None
    age: str | None
    kinds: frozenset[Kind]
    flipped: bool
    remarks: tuple[str, ...]


def read_header(path: Path) -> Header:
    """Read the header of one DICOM mammogram, without its pixels.

    Raises:
        ImageError: the file is damaged, lacks identifiers, or is not a mammogram for presentation.
    """
    with quiet(path), open(path, "rb") as handle:
        fields = Fields(
            open_dataset(handle, path, stop_before_pixels=True, specific_tags=HEADER_FIELDS)
        )
        if reason := exclusion(fields):
            raise ImageError(reason, path)
        return _header(fields, path)


def _header(fields: Fields, path: Path) -> Header:
    if not (fields.text("StudyInstanceUID") and fields.text("SOPInstanceUID")):
        raise ImageError("no-identifiers", path)
    placed = place(fields)
    burned = fields.upper("BurnedInAnnotation") == "YES"
    if burned and not (placed.laterality and placed.view):
        raise ImageError("secondary-capture", path)  # nothing says that it is a mammogram
    return Header(
        patient=fields.text("PatientID"),
        issuer=fields.text("IssuerOfPatientID"),
        birth_date=fields.text("PatientBirthDate"),
        study=fields.text("StudyInstanceUID"),
        image=fields.text("SOPInstanceUID"),
        accession=fields.text("AccessionNumber"),
        date=fields.text("StudyDate") or fields.text("AcquisitionDate"),
        laterality=placed.laterality,
        view=placed.view,
        vendor=fields.text("Manufacturer") or None,
        spacing=fields.number("ImagerPixelSpacing") or fields.number("PixelSpacing"),
        age=age_band(fields),
        kinds=special_kinds(fields),
        flipped=placed.flipped,
        remarks=(*placed.conflicts, *(["burned-in"] if burned else [])),
    )
