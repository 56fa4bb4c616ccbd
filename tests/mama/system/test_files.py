"""Files are written atomically, even if the writer fails or is killed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from mama.system.files import replacing, write_bytes, write_json, write_text


def test_the_content_is_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    write_text(path, "grün\n")
    assert path.read_bytes() == "grün\n".encode()
    write_bytes(path, b"\x00\xff")
    assert path.read_bytes() == b"\x00\xff"
    assert list(path.parent.iterdir()) == [path]


def test_an_error_inside_leaves_the_old_content_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def fail_half_way() -> None:
        with replacing(path) as temporary:
            temporary.write_text("half of the n")
            assert path.read_text() == "old"
            raise RuntimeError("disk on fire")

    with pytest.raises(RuntimeError, match="disk on fire"):
        fail_half_way()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_writer_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    program = (
        "import os, sys; from pathlib import Path; from mama.system.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_text('half of the n'); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == 9
    assert path.read_text() == "old"
    write_text(path, "new")  # what the dead one left is in nobody's way
    assert path.read_text() == "new"


def test_json_is_readable_and_refuses_nan(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    write_json(path, {"auc": 0.5, "list": [None, "é"]})
    assert json.loads(path.read_text()) == {"auc": 0.5, "list": [None, "é"]}
    with pytest.raises(ValueError):
        write_json(path, {"auc": float("nan")})
    assert json.loads(path.read_text())["auc"] == 0.5
    assert list(tmp_path.iterdir()) == [path]


def test_what_cannot_be_written_is_named_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    (tmp_path / "folder").mkdir()
    for path, named in (("folder", "folder"), ("file/below", "file")):
        with pytest.raises(OSError) as error:
            write_text(tmp_path / path, "new")
        assert error.value.filename == str(tmp_path / named)
        assert error.value.filename2 is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder"]
