"""Configuration of ingest: archive, patients' identity, kinds of images to keep, and reports."""

from datetime import date
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from mama.config.base import Section

Column = Annotated[str, Field(min_length=1, max_length=200)]
LOOPBACK = ("localhost", "127.0.0.1", "::1")
# Kinds of images that are left out unless they are listed in `keep`.
Kind = Literal["magnification", "spot", "implant_displaced", "synthetic", "male", "post_mastectomy"]


class PacsConfig(Section):
    """The archive (PACS) that studies are pulled from by DICOMweb before they are read.

    Patients' images travel: the url is https, or http on this machine only, such as the end of a
    tunnel. The archive is asked directly, whatever proxy the environment names.
    """

    url: Annotated[str, Field(max_length=1000)]
    """Address of the DICOMweb service, such as https://pacs.example.org/dicom-web."""
    study_date: tuple[date | None, date | None]
    """First and last day of the studies, as 2015-01-01; null is open."""
    modality: Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")] = "MG"
    """Modality that a study must have."""
    ca: Path | None = None
    """PEM file of the authority of the archive's certificate; null trusts the public ones."""
    credentials: Path | None = None
    """File of mode 0600 with one line, user:password, or Bearer and a token; null for none."""

    @model_validator(mode="after")
    def _check(self) -> "PacsConfig":
        try:
            parts = urlsplit(self.url)
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError("url is not an address") from None
        if "@" in self.url or not self.url.isascii() or not self.url.isprintable():
            raise ValueError("url must hold no user or password; name a file as credentials")
        if not host or parts.query or parts.fragment or " " in self.url:
            raise ValueError("url must be https://HOST/PATH")
        if parts.scheme != "https" and (parts.scheme != "http" or host not in LOOPBACK):
            raise ValueError("url must begin with https://, or http:// for this machine only")
        first, last = self.study_date
        if first and last and first > last:
            raise ValueError("study_date must begin with the earlier day")
        return self


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
