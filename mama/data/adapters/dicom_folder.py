"""Adapter for a hospital export: a folder of DICOM mammograms with a table of reports.

FOLDER/dicom/**         DICOM files with any names (or anywhere under FOLDER)
FOLDER/reports.csv      one row a study, or as `mama.data.adapters.report_table` says
"""

from pathlib import Path

from mama.config.ingest import DEFAULTS, IngestConfig
from mama.data.adapters.archive import ArchiveExam, read_archive
from mama.data.adapters.raw import RawDataset, RawStudy
from mama.data.adapters.report_table import Entry, ReportTable
from mama.data.dicom.headers import ReadHeaders, read_headers


def images_folder(source: Path) -> Path:
    """Return the folder that is looked at for images."""
    return source / "dicom" if (source / "dicom").is_dir() else source


def read(
    source: Path, config: IngestConfig = DEFAULTS, headers: ReadHeaders = read_headers
) -> RawDataset:
    """Read the DICOM headers and the report table of a folder.

    Raises:
        DataError: the table is missing or has errors, or the ids of the images are unfit to tell
            patients and studies apart. The message gives the line numbers or the key to set.
        ConfigError: the map of the columns has an unknown name.
    """
    table = ReportTable(source, config)  # first: its mistakes show before the images are read
    archive = read_archive(images_folder(source), source, config, headers)
    entries, notes = table.join([exam.keys for exam in archive.exams])
    studies = tuple(_study(exam, entries.get(exam.keys.study, Entry())) for exam in archive.exams)
    return RawDataset(studies, tuple(archive.skipped), (*archive.notes, *notes))


def _study(exam: ArchiveExam, entry: Entry) -> RawStudy:
    return RawStudy(
        patient=exam.patient,
        study=exam.keys.study,
        split=entry.split,
        images=exam.images,
        report=entry.report,
        labels=entry.labels,
        age=exam.age,
    )
