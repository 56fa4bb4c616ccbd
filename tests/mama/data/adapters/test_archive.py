"""Exams of an archive: patients, studies, special kinds, copies, and what cannot be read."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.config.ingest import IdentityConfig, IngestConfig
from mama.data.adapters.archive import Archive, read_archive
from mama.errors import DataError

Write = Callable[..., Path]


@pytest.fixture
def exam(tmp_path: Path, write_dicom: Write) -> Callable[..., None]:
    """Write one image of a study."""

    def write(study: str, patient: str | None = "P", name: str = "", **fields: Any) -> None:
        name = name or f"{study}/{len(list(tmp_path.rglob('*')))}.dcm"
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_dicom(path, StudyInstanceUID=study, PatientID=patient, **fields)

    return write


def read(folder: Path, **config: Any) -> Archive:
    return read_archive(folder, folder, IngestConfig.model_validate(config))


def codes(archive: Archive) -> list[str]:
    return sorted(note.code for note in archive.notes)


@pytest.mark.parametrize("patient", [None, "", "ANONYMOUS", "Anon_12", "unknown", "0000", "N/A"])
def test_missing_patient_ids_are_refused_with_what_to_set(
    tmp_path: Path, exam: Callable[..., None], patient: str | None
) -> None:
    for number in range(1, 7):
        exam(f"1.{number}", patient)
    with pytest.raises(DataError, match=r"identity.patient: most of the 6 studies have no") as e:
        read(tmp_path)
    assert "Set it to study only" in str(e.value)
    assert len(read(tmp_path, identity={"patient": "study"}).exams) == 6


def test_one_id_for_all_is_refused(tmp_path: Path, exam: Callable[..., None]) -> None:
    for number in range(1, 13):
        exam(f"1.{number}", "Z-17")
    with pytest.raises(DataError, match="one PatientID stands in 12 of 12 studies") as error:
        read(tmp_path)
    assert "Z-17" not in str(error.value)


def test_a_study_without_an_id_among_others_is_left_out_and_noted(
    tmp_path: Path, exam: Callable[..., None]
) -> None:
    for number in range(1, 5):
        exam(f"1.{number}", f"P{number}")
    exam("1.9", None)
    found = read(tmp_path)
    assert len(found.exams) == 4
    assert codes(found) == ["no-patient"]


def test_several_ids_in_a_study(tmp_path: Path, exam: Callable[..., None]) -> None:
    exam("1.1", "P1")
    exam("1.1", "P2")
    exam("1.2", "P3")
    found = read(tmp_path)
    assert [one.patient for one in found.exams] == ["P3"]
    assert codes(found) == ["several-patients"]


def test_several_dates_of_birth_of_one_id(tmp_path: Path, exam: Callable[..., None]) -> None:
    exam("1.1", "P1", PatientBirthDate="19500101")
    exam("1.2", "P1", PatientBirthDate="19610202")
    found = read(tmp_path)
    assert codes(found) == ["several-birth-dates"]
    assert "1950" not in str(found.notes)


def test_one_image_uid_of_two_patients_is_two_images(
    tmp_path: Path, exam: Callable[..., None]
) -> None:
    for number in (1, 2):
        exam(f"1.{number}", f"P{number}", SOPInstanceUID="1.9")
    exam("1.1", "P1", SOPInstanceUID="1.9")
    archive = read(tmp_path)
    found = {exam.patient: exam.images for exam in archive.exams}
    assert [len(images[0].copies) for _, images in sorted(found.items())] == [1, 0]
    assert found["P1"][0].id != found["P2"][0].id
    assert codes(archive) == ["image-uid-shared", "image-uid-shared"]


def test_a_study_uid_new_in_each_image_is_refused_and_accession_joins(
    tmp_path: Path, exam: Callable[..., None]
) -> None:
    for patient in ("A", "B"):
        for number in range(4):
            exam(f"1.{ord(patient)}.{number}", patient, AccessionNumber=f"acc{patient}")
    with pytest.raises(DataError, match=r"identity.study: 8 images .* Set it to accession"):
        read(tmp_path)
    found = read(tmp_path, identity={"study": "accession"})
    assert [(len(one.images), one.patient) for one in found.exams] == [(4, "A"), (4, "B")]


@pytest.mark.parametrize("accession", ["NA", "SCREEN"])
def test_a_word_for_an_accession_joins_no_two_exams(
    tmp_path: Path, exam: Callable[..., None], accession: str
) -> None:
    exam("1.1", "A", AccessionNumber=accession, StudyDate="20150101")
    exam("1.2", "A", AccessionNumber=accession, StudyDate="20200101")
    assert len(read(tmp_path, identity={"study": "accession"}).exams) == 2


@pytest.mark.parametrize(
    ("patient", "study", "match"),
    [
        ("case{woman}_{image}", "1.{woman}.{image}", "12 of 12 PatientIDs have one image each"),
        ("{number}7a{number}", "1.{woman}", "12 of 12 PatientIDs have one image each"),
        ("P{woman}_{side}", "1.{woman}.{side:.0}{number}", "names side and view"),
        ("P{woman}", "1.{number}", "share patient and date"),
    ],
)
def test_ids_that_are_new_in_each_image_or_breast_are_refused(
    tmp_path: Path, exam: Callable[..., None], patient: str, study: str, match: str
) -> None:
    for number in range(12):
        names = {"woman": number // 4, "image": number % 4, "side": "LR"[number % 2]}
        view = {"ImageLaterality": names["side"], "ViewPosition": "CC" if number % 4 < 2 else "MLO"}
        exam(study.format(number=number, **names), patient.format(number=number, **names), **view)
    with pytest.raises(DataError, match=match):
        read(tmp_path)


@pytest.mark.parametrize(
    ("ids", "match"),
    [
        (["Z-17"] * 7 + list("ABCDE"), "one PatientID stands in 7 of 12"),
        (["SITE1", "SCANNER2"] * 10, "2 PatientIDs stand in 20 of 20"),
    ],
)
def test_constant_ids_are_refused(
    tmp_path: Path, exam: Callable[..., None], ids: list[str], match: str
) -> None:
    for number, patient in enumerate(ids):
        exam(f"1.{number}", patient)
    with pytest.raises(DataError, match=match):
        read(tmp_path)


def test_one_accession_of_two_patients_is_two_studies(
    tmp_path: Path, exam: Callable[..., None]
) -> None:
    exam("1.1", "A", AccessionNumber="0")
    exam("1.2", "B", AccessionNumber="0")
    assert len(read(tmp_path, identity={"study": "accession"}).exams) == 2


def test_ids_that_name_side_and_view_are_refused(tmp_path: Path, exam: Callable[..., None]) -> None:
    for patient in ("P_00820", "P_00016"):
        for view in ("LEFT_CC", "LEFT_MLO", "RIGHT_CC", "RIGHT_MLO"):
            exam(f"1.{patient[2:]}.{len(view)}.{view[0] == 'L':d}", f"Mass-Test_{patient}_{view}")
    with pytest.raises(DataError, match=r"names side and view.*cbis_ddsm"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("config", "same"),
    [
        ({}, False),
        ({"strip_zeros": True, "strip_suffix": True}, True),
        ({"strip_zeros": True}, False),
    ],
)
def test_normal_forms_of_an_id(
    tmp_path: Path, exam: Callable[..., None], config: dict[str, bool], same: bool
) -> None:
    exam("1.1", "00123^^^HOSP")
    exam("1.2", "123")
    found = read(tmp_path, identity=config)
    assert (len({one.patient for one in found.exams}) == 1) == same


def test_the_issuer_tells_two_patients_apart(tmp_path: Path, exam: Callable[..., None]) -> None:
    exam("1.1", "7", IssuerOfPatientID="A")
    exam("1.2", "7", IssuerOfPatientID="B")
    assert len({one.patient for one in read(tmp_path).exams}) == 1
    both = read(tmp_path, identity=IdentityConfig(patient="patient_id_and_issuer").model_dump())
    assert len({one.patient for one in both.exams}) == 2


def test_special_kinds_by_default_and_by_choice(tmp_path: Path, exam: Callable[..., None]) -> None:
    exam("1.1", name="plain.dcm")
    exam("1.1", name="mag.dcm", EstimatedRadiographicMagnificationFactor="1.8")
    exam("1.1", name="id.dcm", ViewPosition="CCID")
    exam("1.1", name="man.dcm", PatientSex="M")
    found = read(tmp_path)
    assert sorted((s.file, s.reason) for s in found.skipped) == [
        ("mag.dcm", "magnification"),
        ("man.dcm", "male"),
    ]
    flags = {image.path.name: image.flags for image in found.exams[0].images}
    assert flags == {"plain.dcm": (), "id.dcm": ("implant_displaced",)}
    assert len(read(tmp_path, keep=["magnification", "male"]).exams[0].images) == 3


def test_a_synthetic_image_is_used_only_without_its_original(
    tmp_path: Path, exam: Callable[..., None]
) -> None:
    synthetic = {"ImageType": ["DERIVED", "PRIMARY", "TOMO", "GENERATED_2D"]}
    exam("1.1", name="cc.dcm", ViewPosition="CC")
    exam("1.1", name="cc-view.dcm", ViewPosition="CC", **synthetic)
    exam("1.1", name="mlo-view.dcm", ViewPosition="MLO", **synthetic)
    found = read(tmp_path)
    assert [(s.file, s.reason) for s in found.skipped] == [("cc-view.dcm", "synthetic")]
    assert {image.path.name for image in found.exams[0].images} == {"cc.dcm", "mlo-view.dcm"}
    assert len(read(tmp_path, keep=[]).skipped) == 2
    exam("1.2", "Q", name="unknown.dcm", ViewPosition="")
    exam("1.2", "Q", name="unknown-view.dcm", ViewPosition="MLO", **synthetic)
    assert [(s.file, s.reason) for s in read(tmp_path).skipped][1:] == [
        ("unknown-view.dcm", "synthetic")
    ]


@pytest.mark.parametrize(
    ("policy", "sides"), [("unknown", [None]), ("keep", ["R"]), ("exclude", [])]
)
def test_fields_that_contradict_each_other(
    tmp_path: Path, exam: Callable[..., None], policy: str, sides: list[str | None]
) -> None:
    exam("1.1", ImageLaterality="R", Laterality="L")
    found = read(tmp_path, conflicts=policy)
    assert codes(found)[0] == "side-conflict"
    assert [image.laterality for one in found.exams for image in one.images] == sides


def test_files_that_are_not_read_are_named(tmp_path: Path, exam: Callable[..., None]) -> None:
    exam("1.1", name="disk/a.dcm")
    other = tmp_path.parent / f"{tmp_path.name}-second"
    (tmp_path / "disk").rename(other)
    (tmp_path / "linked").symlink_to(other)  # a second disk
    (other / "loop").symlink_to(tmp_path)
    (tmp_path / "more.zip").write_bytes(b"PK")
    (tmp_path / "._a.dcm").write_bytes(b"junk")
    (tmp_path / "b\x1b[31m.dcm").write_bytes(b"junk")
    os.mkfifo(tmp_path / "pipe.dcm")
    found = read(tmp_path)
    assert len(found.exams) == 1
    assert codes(found) == ["archive"]
    ((name, reason),) = found.skipped
    assert reason == "unreadable"
    assert "\x1b" not in name


def test_a_file_without_preamble(tmp_path: Path, exam: Callable[..., None]) -> None:
    exam("1.1", name="a.dcm")
    whole = (tmp_path / "a.dcm").read_bytes()
    start = whole.index(b"\x08\x00\x16\x00", 132 + 20)
    (tmp_path / "a.dcm").write_bytes(whole[start:])
    found = read(tmp_path)
    assert [len(one.images) for one in found.exams] == [1]
    (tmp_path / "a.dcm").write_bytes(b"no DICOM at all, however long it may be" * 20)
    assert [s.reason for s in read(tmp_path).skipped] == ["unreadable"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission(tmp_path: Path, exam: Callable[..., None]) -> None:
    exam("1.1", name="open/a.dcm")
    exam("1.2", name="closed/b.dcm")
    (tmp_path / "closed").chmod(0)
    try:
        assert [(s.file, s.reason) for s in read(tmp_path).skipped] == [("closed", "no-permission")]
    finally:
        (tmp_path / "closed").chmod(0o700)


def test_an_error_of_the_disk_is_of_that_file_alone(
    tmp_path: Path, exam: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    exam("1.1", name="a")
    exam("1.2", name="b")
    from mama.data.dicom import headers

    real = headers.is_dicom

    def failing(path: Path) -> bool:
        if path.name == "a":
            raise OSError(5, "Input/output error")
        return real(path)

    monkeypatch.setattr(headers, "is_dicom", failing)
    found = read(tmp_path)
    assert [(s.file, s.reason) for s in found.skipped] == [("a", "read-error")]
    assert len(found.exams) == 1
