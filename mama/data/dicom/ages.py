"""Age of a patient at an exam, as a band of ten years; no age or date of birth is kept."""

import re
from datetime import date, datetime

from mama.data.dicom.fields import Fields

# PatientAge (DICOM PS3.5, VR AS): three digits and a unit, here in years.
_AGE = re.compile(r"(\d{1,3})([DWMY]?)")
_IN_YEARS = {"D": 365.25, "W": 52.18, "M": 12, "Y": 1, "": 1}
# Dates of birth such as 1900-01-01 stand for an unknown one.
_OLDEST = 110


def age_band(fields: Fields) -> str | None:
    """Return the band from PatientAge, else from the dates of birth and study; None if unknown."""
    years = _stated(fields.upper("PatientAge"))
    if years is None:
        exam = fields.text("StudyDate") or fields.text("AcquisitionDate")
        years = _between(fields.text("PatientBirthDate"), exam)
    return None if years is None or not 0 <= years <= _OLDEST else band_of(years)


def band_of(years: int) -> str:
    """Return the band of an age: "<30", "30-39" to "80-89", "90+"."""
    if years < 30:
        return "<30"
    if years >= 90:
        return "90+"
    start = years // 10 * 10
    return f"{start}-{start + 9}"


def _stated(text: str) -> int | None:
    match = _AGE.fullmatch(text)
    # De-identified exports state 000Y for an unknown age.
    return int(int(match[1]) / _IN_YEARS[match[2]]) or None if match else None


def _between(birth: str, exam: str) -> int | None:
    born, seen = _day(birth), _day(exam)
    if born is None or seen is None:
        return None
    return seen.year - born.year - ((seen.month, seen.day) < (born.month, born.day))


def _day(text: str) -> date | None:
    try:
        return datetime.strptime(text[:8], "%Y%m%d").date()
    except ValueError:
        return None
