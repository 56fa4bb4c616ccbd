"""A small DICOMweb server with two exams, and a site that pulls from it."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mama.config.ingest import PacsConfig
from mama.data.pacs import Pulled, archive, pull
from tests.mama.data.pacs.server import Server, serving

Write = Callable[..., Path]


@pytest.fixture
def write_exam(tmp_path: Path, write_dicom: Write) -> Callable[..., list[Path]]:
    """Write the two views of an exam; returns their files."""

    def write(number: int, sides: str = "LR", **fields: Any) -> list[Path]:
        return [
            write_dicom(
                tmp_path / "hospital" / f"{number}{side}.dcm",
                **{
                    "PatientID": f"patient-{number}",
                    "StudyInstanceUID": f"1.2.{number}",
                    "SeriesInstanceUID": f"1.2.{number}.9",
                    "SOPInstanceUID": f"1.2.{number}.{ord(side)}",
                    "StudyDate": f"2020010{number}",
                    "ImageLaterality": side,
                }
                | fields,
            )
            for side in sides
        ]

    return write


@pytest.fixture
def server(
    write_exam: Callable[..., list[Path]], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Server]:
    monkeypatch.setattr(archive, "WAITS", (0, 0))
    with serving() as running:
        for number in (1, 2):
            for path in write_exam(number):
                running.add(path)
        yield running


@pytest.fixture
def bring(server: Server, tmp_path: Path) -> Callable[..., Pulled]:
    """Pull from the server into the folder `source`."""

    def run(withdrawn: tuple[str, ...] = (), **settings: Any) -> Pulled:
        config = {"url": server.url, "study_date": (None, None)} | settings
        return pull(PacsConfig(**config), tmp_path / "source", withdrawn=withdrawn)

    return run


@pytest.fixture
def pulled_files(tmp_path: Path) -> Callable[[], list[str]]:
    """Names of the DICOM files that were pulled, and of everything unfinished."""

    def names() -> list[str]:
        files = (tmp_path / "source").rglob("*")
        return sorted(
            path.relative_to(tmp_path / "source" / "pacs").as_posix()
            for path in files
            if path.suffix == ".dcm" or ".partial" in path.parts
        )

    return names
