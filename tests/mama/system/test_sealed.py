"""Sealed JSON files: plain JSON for every reader, and damage of any shape is one line."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mama.errors import IntegrityError
from mama.system.sealed import opened, read_sealed, seal, write_sealed

VALUES = {"auc": 0.5, "site": "grün", "list": [1, None], "inner": {"b": 2, "a": 1}}


def test_what_was_written_returns_and_is_plain_json(tmp_path: Path) -> None:
    path = tmp_path / "new" / "x.json"
    assert read_sealed(path) is None
    write_sealed(path, VALUES)
    assert read_sealed(path) == VALUES
    assert json.loads(path.read_text()) == VALUES | {"sha256": seal(VALUES)}
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(ValueError):
        write_sealed(path, {"auc": float("nan")})
    assert read_sealed(path) == VALUES


def test_any_bit_of_a_value_and_any_cut_is_found(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_sealed(path, VALUES)
    whole = path.read_bytes()
    for length in range(len(whole) - 1):  # the last byte is the end of the line
        assert opened(whole[:length]) is None, length
    for bit in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[bit // 8] ^= 1 << bit % 8
        # White space between values may change; what is read never does.
        assert opened(bytes(damaged)) in (None, VALUES), bit


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1, 2]",
        b"3",
        b"null",
        b"{}",
        b"\xff\xfe",
        b'{"sha256": []}',
        b'{"a": NaN, "sha256": "0"}',
        b"[" * 200_000,
        b"1" * 10_000,
    ],
)
def test_other_content_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError, match=r"is damaged\. Do it again$") as error:
        read_sealed(path, "Do it again")
    assert error.value.where == str(path)
    assert "\n" not in str(error.value)


def test_a_folder_in_its_place_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match=r"cannot be read \(IsADirectoryError\)"):
        read_sealed(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(IntegrityError, match=r"cannot be read \(NotADirectoryError\)"):
        read_sealed(tmp_path / "file" / "below")


@given(st.binary(max_size=200))
def test_no_bytes_raise(data: bytes) -> None:
    assert opened(data) is None
