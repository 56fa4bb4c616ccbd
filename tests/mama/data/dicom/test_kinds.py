"""Kinds of objects: which are mammograms for reading, by their headers alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset

from mama.data.dicom.header import read_header
from mama.data.dicom.reasons import ImageError

Write = Callable[..., Path]
STORAGE = "1.2.840.10008.5.1.4.1.1"


def code(value: str, meaning: str = "", **more: Any) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodeMeaning = value, meaning
    for name, sequence in more.items():
        setattr(item, name, sequence)
    return [item]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"Modality": "SR", "SOPClassUID": f"{STORAGE}.88.50", "Rows": None}, "no-image"),
        ({"Modality": "PR", "SOPClassUID": f"{STORAGE}.11.1"}, "no-image"),
        ({"Modality": "KO", "SOPClassUID": f"{STORAGE}.88.59"}, "no-image"),
        ({"Modality": "DOC", "SOPClassUID": f"{STORAGE}.104.1"}, "no-image"),
        ({"Modality": "US"}, "not-a-mammogram"),
        ({"Modality": "CR", "BodyPartExamined": "BREAST"}, "other-modality"),
        ({"Modality": "DX", "BodyPartExamined": "Breast"}, "other-modality"),
        ({"Modality": "DX", "BodyPartExamined": "CHEST"}, "not-a-mammogram"),
        ({"PresentationIntentType": "FOR PROCESSING"}, "for-processing"),
        ({"SOPClassUID": f"{STORAGE}.1.2.1"}, "for-processing"),
        ({"SOPClassUID": f"{STORAGE}.13.1.5"}, "for-processing"),
        ({"SOPClassUID": f"{STORAGE}.13.1.3"}, "tomosynthesis"),
        ({"SOPClassUID": f"{STORAGE}.13.1.3", "NumberOfFrames": 1}, "tomosynthesis"),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMO"]}, "tomosynthesis"),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMOSYNTHESIS", "NONE"]}, "tomosynthesis"),
        ({"NumberOfFrames": 30}, "multi-frame"),
        ({"SOPClassUID": f"{STORAGE}.7", "SeriesDescription": "Dose"}, "secondary-capture"),
        ({"SOPClassUID": f"{STORAGE}.7.2"}, "secondary-capture"),
        ({"SeriesDescription": "Screen Save"}, "secondary-capture"),
        ({"SeriesDescription": "DOSE"}, "secondary-capture"),
        ({"SeriesDescription": "CAD"}, "secondary-capture"),
        ({"ProtocolName": "CAD results"}, "secondary-capture"),
        ({"SeriesDescription": "Dose_Report"}, "secondary-capture"),
        ({"QualityControlImage": "YES"}, "phantom"),
        ({"SeriesDescription": "ACR Phantom"}, "phantom"),
        ({"PatientID": "QC_2024"}, "phantom"),
        ({"ViewCodeSequence": code("G-8310", "Tissue specimen")}, "specimen"),
        ({"SeriesDescription": "R Specimen"}, "specimen"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "STEREO_SCOUT"]}, "stereotactic"),
        ({"SeriesDescription": "Stereo pair -15"}, "stereotactic"),
        ({"ProtocolName": "Needle localization"}, "stereotactic"),
        ({"SeriesDescription": "L breast biopsy"}, "stereotactic"),
        ({"SeriesDescription": "Stereo bx L"}, "stereotactic"),
        ({"SeriesDescription": "Wire Loc CC"}, "stereotactic"),
        ({"SOPClassUID": f"{STORAGE}.2"}, "not-a-mammogram"),
        ({"SOPClassUID": f"{STORAGE}.4"}, "not-a-mammogram"),
        ({"SOPClassUID": f"{STORAGE}.6.1"}, "not-a-mammogram"),
        ({"SOPClassUID": f"{STORAGE}.77.1.4"}, "not-a-mammogram"),
        ({"SOPClassUID": "1.2.840.113681.2841.1.1"}, "not-a-mammogram"),
        ({"Modality": None, "SOPClassUID": f"{STORAGE}.1.1"}, "not-a-mammogram"),
        ({"SOPClassUID": f"{STORAGE}.2", "SeriesDescription": "Tomosynthesis Slices"},
         "tomosynthesis"),
        ({"SOPClassUID": f"{STORAGE}.1.1.1"}, "for-processing"),
        ({"PresentationIntentType": "FOR_PROCESSING"}, "for-processing"),
        ({"SeriesDescription": "L MLO Raw"}, "for-processing"),
        ({"SeriesDescription": "Image brute"}, "for-processing"),
        ({"SeriesDescription": "DBT L CC 1mm slices"}, "tomosynthesis"),
        ({"SeriesDescription": "R MLO Tomo"}, "tomosynthesis"),
        ({"SeriesDescription": "Tomosynthese Schichten RCC"}, "tomosynthesis"),
        ({"SeriesDescription": "CEM L CC Recombined"}, "contrast"),
        ({"PatientName": "QC^PHANTOM"}, "phantom"),
        ({"StudyDescription": "WEEKLY QC PHANTOM"}, "phantom"),
        ({"BodyPartExamined": "PHANTOM"}, "phantom"),
        ({"SeriesDescription": "Flat field"}, "phantom"),
        ({"SeriesDescription": "CDMAM"}, "phantom"),
        ({"SeriesDescription": "Contrôle qualité"}, "phantom"),
        ({"BodyPartExamined": "SPECIMEN"}, "specimen"),
        ({"SeriesDescription": "Präparat links"}, "specimen"),
        ({"SeriesDescription": "Pièce_opératoire"}, "specimen"),
        ({"StudyDescription": "STEREOTACTIC BIOPSY"}, "stereotactic"),
        ({"SeriesDescription": "Drahtmarkierung"}, "stereotactic"),
        ({"SeriesDescription": "Biopsia MI"}, "stereotactic"),
        ({"SeriesDescription": "Vakuumbiopsie"}, "stereotactic"),
        ({"SeriesDescription": "Repérage D"}, "stereotactic"),
        ({"SeriesDescription": "Galactographie"}, "stereotactic"),
        ({"SeriesDescription": "Dosisbericht"}, "secondary-capture"),
        ({"SeriesDescription": "Rapport de dose", "ProtocolName": "MG"}, "secondary-capture"),
        ({"SeriesDescription": "Dose", "ProtocolName": "MG"}, "secondary-capture"),
        ({"SeriesDescription": "Exposure Report"}, "secondary-capture"),
        ({"SeriesDescription": "Scanned document"}, "secondary-capture"),
        ({"BurnedInAnnotation": "YES", "ViewPosition": None}, "secondary-capture"),
    ],
)  # fmt: skip
def test_what_is_no_mammogram_for_reading(
    tmp_path: Path, write_dicom: Write, fields: dict[str, Any], reason: str
) -> None:
    with pytest.raises(ImageError) as caught:
        read_header(write_dicom(tmp_path / "a.dcm", **fields))
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("fields", "kinds"),
    [
        ({}, set()),
        ({"Modality": "mg"}, set()),
        ({"SOPClassUID": f"{STORAGE}.7", "ConversionType": "DF"}, set()),
        ({"ViewCodeSequence": code("R-10242", "CC", ViewModifierCodeSequence=code("R-102D6"))},
         {"magnification"}),
        ({"ViewModifierCodeSequence": code("399163009")}, {"magnification"}),
        ({"ViewModifierCodeSequence": code("R-102D7", "Spot Compression")}, {"spot"}),
        ({"ViewModifierCodeSequence": code("399209000")}, {"implant_displaced"}),
        ({"ViewModifierCodeSequence": code("X", "Implant Displaced")}, {"implant_displaced"}),
        ({"ViewPosition": "CCID"}, {"implant_displaced"}),
        ({"ViewPosition": "MLO-ID"}, {"implant_displaced"}),
        ({"EstimatedRadiographicMagnificationFactor": "1.8"}, {"magnification"}),
        ({"EstimatedRadiographicMagnificationFactor": "1.08"}, set()),
        ({"SeriesDescription": "L CC MAG"}, {"magnification"}),
        ({"SeriesDescription": "R MLO Spot"}, {"spot"}),
        ({"ImageType": ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"]}, {"synthetic"}),
        ({"SeriesDescription": "L CC C-View"}, {"synthetic"}),
        ({"SeriesDescription": "Insight 2D"}, {"synthetic"}),
        ({"PatientSex": "M"}, {"male"}),
        ({"PatientSex": "F"}, set()),
        ({"SeriesDescription": "Low dose L CC"}, set()),
        ({"ProtocolName": "Screening bilateral w CAD"}, set()),
        ({"SeriesDescription": "Post surgical R CC"}, set()),
        ({"SeriesDescription": "L MLO post-biopsy"}, set()),
        ({"SeriesDescription": "Post stereo biopsy clip placement"}, set()),
        ({"SeriesDescription": "Post mastectomy R"}, {"post_mastectomy"}),
        ({"SOPClassUID": f"{STORAGE}.1"}, set()),
        ({"SOPClassUID": f"{STORAGE}.1.1"}, set()),
        ({"SeriesDescription": "Kontrolle nach Biopsie links"}, set()),
        ({"SeriesDescription": "L CC apres macrobiopsie"}, set()),
        ({"StudyDescription": "Diagnostic mammogram, spot and mag views"}, set()),
        ({"StudyDescription": "MG post US guided biopsy"}, set()),
        ({"SeriesDescription": "L CC", "ProtocolName": "Screening 2D and Tomo"}, set()),
        ({"AcquisitionDeviceProcessingDescription": "Flat field corrected"}, set()),
        ({"PatientName": "Rawlins^Dosia"}, set()),
        ({"SeriesDescription": "L CC Synthesised 2D"}, {"synthetic"}),
        ({"SeriesDescription": "Synthetische 2D"}, {"synthetic"}),
        ({"SeriesDescription": "Vergrößerung RCC"}, {"magnification"}),
        ({"SeriesDescription": "Agrandissement CC"}, {"magnification"}),
        ({"SeriesDescription": "Zielaufnahme"}, {"spot"}),
        ({"SeriesDescription": "Compression localisée"}, {"spot"}),
        *[({"ViewPosition": view}, {"magnification"}) for view in ("MCC", "CCM", "RMMLO", "MLO M")],
        *[({"ViewPosition": view}, {"spot"}) for view in ("SCC", "CCS", "MLOS", "LSMLO")],
        ({"ViewPosition": "CCMS"}, {"magnification", "spot"}),
        ({"ViewPosition": "CCRM"}, set()),
        ({"ViewPosition": "XCCM"}, set()),
        ({"BurnedInAnnotation": "YES"}, set()),
    ],
)  # fmt: skip
def test_special_kinds(
    tmp_path: Path, write_dicom: Write, fields: dict[str, Any], kinds: set[str]
) -> None:
    assert read_header(write_dicom(tmp_path / "a.dcm", **fields)).kinds == kinds
