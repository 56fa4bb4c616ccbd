"""Sealed files of records: plain JSON, read one by one, and damage of any shape is refused."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mama.errors import IntegrityError
from mama.system.sealed import SealedRecords, write_records

RECORDS = [{"text": "grün\n\u2028"}, {}, {"text": "],"}]
HOSTILE = [
    b"",
    b"\n",
    b'"}\n' * 30,
    b"\0" * 100_000,
    b'{"head":{},"records":[\n',
    b'{\n  "format": 3,\n  "studies": [],\n  "sha256": "' + b"0" * 64 + b'"\n}\n',
]


def write(path: Path, records: list[dict]) -> Path:
    write_records(path, '{"n":1}', (json.dumps(r, ensure_ascii=False) for r in records))
    return path


def sealed(body: bytes) -> bytes:
    """The bytes with the checksum that belongs to them."""
    return body + hashlib.sha256(body).hexdigest().encode() + b'"}\n'


@pytest.mark.parametrize("records", [[], RECORDS[:1], RECORDS])
def test_what_was_written_returns_and_is_plain_json(tmp_path: Path, records: list[dict]) -> None:
    path = write(tmp_path / "new" / "x.json", records)
    file = SealedRecords(path)
    assert (json.loads(file.head), len(file)) == ({"n": 1}, len(records))
    assert [json.loads(file.record(n)) for n in range(len(file))] == records
    whole = json.loads(path.read_bytes())
    assert (whole["head"], whole["records"]) == ({"n": 1}, records)
    assert path.stat().st_mode & 0o777 == 0o600


def test_records_longer_than_what_is_read_at_once(tmp_path: Path) -> None:
    records = [{"text": f"{n}" * 700_000} for n in range(4)]
    file = SealedRecords(write(tmp_path / "x.json", records))
    assert [json.loads(file.record(n)) for n in range(4)] == records


def test_a_failed_write_leaves_the_earlier_file(tmp_path: Path) -> None:
    def failing() -> Iterator[str]:
        yield "{}"
        raise ValueError

    before = write(tmp_path / "x.json", RECORDS).read_bytes()
    with pytest.raises(ValueError):
        write_records(tmp_path / "x.json", "{}", failing())
    assert (tmp_path / "x.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def test_a_flipped_bit_of_any_byte_and_any_cut_is_found(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", RECORDS[:1])
    whole, other = path.read_bytes(), tmp_path / "y.json"
    damaged = [whole[:length] for length in range(len(whole))]
    for place in range(len(whole)):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        damaged.append(bytes(flipped))
    for content in (*damaged, whole + b"\n"):
        other.write_bytes(content)
        with pytest.raises(IntegrityError, match=r"is damaged$"):
            SealedRecords(other)


@pytest.mark.parametrize(
    "body",
    [b"", b"\n", b"\n" * 1000, b'{"head":{}\n],"sha256":"', b'{"head":{},"records":[\n]"sha256":"'],
)
def test_a_checksum_alone_makes_no_file(tmp_path: Path, body: bytes) -> None:
    (tmp_path / "x.json").write_bytes(sealed(body))
    with pytest.raises(IntegrityError, match=r"is damaged$"):
        SealedRecords(tmp_path / "x.json")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.binary(max_size=300) | st.sampled_from(HOSTILE))
def test_no_bytes_are_read(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "x.json").write_bytes(data)
    with pytest.raises(IntegrityError, match=r"is damaged$") as error:
        SealedRecords(tmp_path / "x.json")
    assert "\n" not in str(error.value)


def test_an_open_file_outlives_its_replacement_and_notices_a_change(tmp_path: Path) -> None:
    path = write(tmp_path / "x.json", RECORDS)
    before = SealedRecords(path)
    write(path, [{"text": "later"}])
    assert [json.loads(before.record(n)) for n in range(3)] == RECORDS
    after = SealedRecords(path)
    path.write_bytes(b"")
    with pytest.raises(IntegrityError, match=r"is damaged$"):
        after.record(0)


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"cannot be read \(IsADirectoryError\)$"):
        SealedRecords(tmp_path)
    with pytest.raises(IntegrityError, match=r"cannot be read \(FileNotFoundError\)$"):
        SealedRecords(tmp_path / "none")
