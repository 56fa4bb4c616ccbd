"""Headers of an earlier ingest are reused for unchanged files, and readable by the site alone."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from mama.data.dicom import headers
from mama.data.dicom.header import Header
from mama.data.dicom.headers import read_headers
from mama.data.ingest.headers import HeaderCache

Write = Callable[..., Path]
KEY = bytes(range(32))


@pytest.fixture
def paths(tmp_path: Path, write_dicom: Write) -> list[Path]:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "notes.txt").write_text("not DICOM")
    write_dicom(folder / "a.dcm", PatientID="CANARY-1", ViewPosition="CC")
    write_dicom(folder / "b.dcm", Modality="US")
    (folder / "c.dcm").write_bytes(b"damaged")
    return sorted(folder.iterdir())


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose header was read."""
    names: list[str] = []
    real = headers.read_header

    def counted(path: Path) -> Header:
        names.append(path.name)
        return real(path)

    monkeypatch.setattr(headers, "read_header", counted)
    return names


def test_unchanged_files_are_not_read_again(tmp_path: Path, paths: list[Path], read: list[str]):
    file = tmp_path / "headers.bin"
    cache = HeaderCache(file, None)
    first = list(cache.read(paths))
    assert first == list(read_headers(paths))
    assert [outcome for outcome in first if not isinstance(outcome, Header)] == [
        "not-a-mammogram", "unreadable", None,
    ]  # fmt: skip
    cache.write(KEY)
    read.clear()
    again = HeaderCache(file, KEY)
    assert list(again.read(paths)) == first
    assert read == []
    before = file.read_bytes()
    again.write(KEY)
    assert file.read_bytes() == before


def test_only_new_and_changed_files_are_read(
    tmp_path: Path, paths: list[Path], read: list[str], write_dicom: Write
):
    file = tmp_path / "headers.bin"
    cache = HeaderCache(file, None)
    list(cache.read(paths))
    cache.write(KEY)
    read.clear()
    write_dicom(paths[0], PatientID="CANARY-2", ViewPosition="MLO", StudyDate="20240102")
    new = write_dicom(tmp_path / "source" / "d.dcm", PatientID="CANARY-3")
    cache = HeaderCache(file, KEY)
    found = list(cache.read([*paths[:2], new]))
    assert [one.patient for one in found if isinstance(one, Header)] == ["CANARY-2", "CANARY-3"]
    assert read == ["a.dcm", "d.dcm"]
    cache.write(KEY)
    read.clear()
    list(HeaderCache(file, KEY).read(paths))
    assert read == ["c.dcm"]  # forgotten when it was gone


def test_a_failure_that_may_pass_is_not_remembered(
    tmp_path: Path, paths: list[Path], monkeypatch: pytest.MonkeyPatch
):
    def fails(path: Path) -> Header:
        raise headers.ImageError("read-error", path)

    cache = HeaderCache(tmp_path / "headers.bin", None)
    with monkeypatch.context() as broken:
        broken.setattr(headers, "read_header", fails)
        assert set(cache.read(paths)) == {"read-error", None}
    cache.write(KEY)
    assert list(HeaderCache(tmp_path / "headers.bin", KEY).read(paths)) == list(read_headers(paths))


def test_the_file_reveals_nothing_and_opens_only_with_the_key(
    tmp_path: Path, paths: list[Path], read: list[str]
):
    file = tmp_path / "headers.bin"
    cache = HeaderCache(file, None)
    list(cache.read(paths))
    cache.write(KEY)
    assert b"CANARY" not in file.read_bytes()
    assert os.stat(file).st_mode & 0o777 == 0o600
    whole = file.read_bytes()
    for damaged, key in ((whole, bytes(32)), (whole[:-1], KEY), (b"", KEY)):
        file.write_bytes(damaged)
        read.clear()
        list(HeaderCache(file, key).read(paths))
        assert read == ["a.dcm", "b.dcm", "c.dcm"]


def test_other_rules_read_all_again(
    tmp_path: Path, paths: list[Path], read: list[str], monkeypatch: pytest.MonkeyPatch
):
    cache = HeaderCache(tmp_path / "headers.bin", None)
    list(cache.read(paths))
    cache.write(KEY)
    read.clear()
    monkeypatch.setattr("mama.data.ingest.headers._rules", lambda: b"another version")
    list(HeaderCache(tmp_path / "headers.bin", KEY).read(paths))
    assert read == ["a.dcm", "b.dcm", "c.dcm"]


def test_workers_and_progress(tmp_path: Path, write_dicom: Write):
    first = write_dicom(tmp_path / "0.dcm")
    paths = [first, *(tmp_path / f"{number}.dcm" for number in range(1, 70))]
    for path in paths[1:]:
        path.symlink_to(first)
    told: list[tuple[int, int]] = []
    cache = HeaderCache(tmp_path / "headers.bin", None, 2, lambda *counts: told.append(counts))
    assert list(cache.read(paths)) == list(read_headers(paths))
    assert told == [(done, 70) for done in range(1, 71)]
