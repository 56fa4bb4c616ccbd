"""Band of the patient's age: all that ingest keeps of age and date of birth."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from mama.data.dicom.ages import band_of
from mama.data.dicom.header import read_header
from mama.exchange.metrics import CATEGORIES, UNKNOWN, Attribute


@pytest.mark.parametrize(
    ("fields", "band"),
    [
        ({"PatientAge": "045Y"}, "40-49"),
        ({"PatientAge": "540M"}, "40-49"),
        ({"PatientAge": "029Y"}, "<30"),
        ({"PatientAge": "090Y"}, "90+"),
        ({"PatientAge": "49"}, "40-49"),
        ({"PatientAge": "045Y", "PatientBirthDate": "19000101"}, "40-49"),
        ({"PatientBirthDate": "19600315", "StudyDate": "20200314"}, "50-59"),
        ({"PatientBirthDate": "19600315", "StudyDate": "20200315"}, "60-69"),
        ({"PatientBirthDate": "19600315", "AcquisitionDate": "20200315"}, "60-69"),
        ({"PatientAge": "000Y", "PatientBirthDate": "19600315", "StudyDate": "20200315"}, "60-69"),
        # A placeholder, an exam before birth, half a date, no date at all.
        ({"PatientBirthDate": "19000101", "StudyDate": "20200315"}, None),
        ({"PatientBirthDate": "20210101", "StudyDate": "20200315"}, None),
        ({"PatientBirthDate": "1960", "StudyDate": "20200315"}, None),
        ({}, None),
    ],
)
def test_the_band_comes_from_the_stated_age_or_the_dates(
    tmp_path: Path, write_dicom: Callable[..., Path], fields: dict[str, str], band: str | None
) -> None:
    assert read_header(write_dicom(tmp_path / "a.dcm", **fields)).age == band


def test_every_band_may_leave_a_site() -> None:
    assert [*dict.fromkeys(map(band_of, range(111))), UNKNOWN] == list(CATEGORIES["age"])
    assert set(CATEGORIES) == set(get_args(Attribute))
