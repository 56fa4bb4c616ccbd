"""Configuration of ingest: patients' identity, kinds of images to keep, and reports."""

from typing import Annotated, Literal

from pydantic import Field

from mama.config.base import Section

Column = Annotated[str, Field(min_length=1, max_length=200)]
# Kinds of images that are left out unless they are listed in `keep`.
Kind = Literal["magnification", "spot", "implant_displaced", "synthetic", "male", "post_mastectomy"]


class IdentityConfig(Section):
    """Rules for the patient of a study and the study of an image.

    Two studies are of one patient if their keys are equal. A key that is empty, the same in most
    studies, or new in every image is refused by name, since views of one woman could otherwise
    land in training and in test.
    """

    patient: Literal["patient_id", "patient_id_and_issuer", "study"] = "patient_id"
    """Patient key: PatientID, PatientID with its issuer, or each study as a patient of its own."""
    strip_zeros: bool = False
    """Ignore leading zeros of the PatientID."""
    strip_suffix: bool = False
    """Ignore what follows the first ^ of the PatientID, such as 1234^^^HOSPITAL."""
    study: Literal["study_uid", "accession"] = "study_uid"
    """Study of an image: StudyInstanceUID, or AccessionNumber where each image has its own UID."""


class ReportsConfig(Section):
    """Table and text of the reports.

    `columns` maps the names that docs/data.md lists to the columns of the table. An addendum is a
    further row of a study.
    """

    columns: dict[Column, Column] = Field({}, max_length=64)
    """Columns of the table by their names here, such as {report: ReportText, study: Accession}."""
    addenda: Literal["append", "last", "refuse"] = "refuse"
    """Several rows of one study: join their texts, take the last, or refuse the table."""
    language: Annotated[str, Field(pattern=r"^(auto|[a-z]{2})$")] = "auto"
    """Language of the reports, a file of configs/languages; auto recognises it by report."""
    identifiers: Literal["redact", "refuse", "keep"] = "redact"
    """Names, numbers and dates in a report: replace them, leave the report out, or keep them."""


class IngestConfig(Section):
    """Decisions of ingest that depend on the archive; docs/data.md explains each."""

    identity: IdentityConfig = IdentityConfig()
    """Rules for the patient of a study and the study of an image."""
    keep: list[Kind] = ["implant_displaced", "synthetic", "post_mastectomy"]
    """Special kinds of images to keep; a synthetic image is kept only without its original."""
    conflicts: Literal["unknown", "keep", "exclude"] = "unknown"
    """Image whose header contradicts itself or the chest wall on the side: without a side, with the
    ImageLaterality, or left out."""
    reports: ReportsConfig = ReportsConfig()
    """Table and text of the reports."""


DEFAULTS = IngestConfig()
