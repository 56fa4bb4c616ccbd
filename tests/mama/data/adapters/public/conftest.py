"""Helpers that write tiny sets in the layouts of the published ones."""

from collections.abc import Callable
from pathlib import Path

import pytest
from openpyxl import Workbook

from mama.data.adapters.raw import RawDataset, RawStudy


@pytest.fixture
def write_table(tmp_path: Path) -> Callable[..., Path]:
    """Write lines as a text table, or lists of cells as a sheet of an Excel file."""

    def write(name: str, *lines: str | list, encoding: str = "utf-8", sheet: str = "") -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".xlsx":
            book = Workbook()
            content = book.create_sheet(sheet) if sheet else book.active
            for line in lines:
                content.append(line)
            book.save(path)
        else:
            path.write_bytes(("\n".join(lines) + "\n").encode(encoding))
        return path

    return write


@pytest.fixture
def touch(tmp_path: Path) -> Callable[..., None]:
    """Make files whose pixels and headers no adapter reads."""

    def make(*names: str) -> None:
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_bytes(b"")

    return make


@pytest.fixture
def by_name() -> Callable[[RawDataset], dict[str, RawStudy]]:
    return lambda dataset: {study.study: study for study in dataset.studies}


@pytest.fixture
def codes() -> Callable[[RawDataset], dict[str, str]]:
    """Codes of the remarks with their places."""
    return lambda dataset: {note.code: note.where for note in dataset.notes}
