"""Errors that a person can fix are one line with a fix, and a documented exit code."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from mama.errors import FilesError
from mama.system.cli import run_cli
from mama.system.files import write_text


@pytest.fixture
def ends(command: Callable[..., Any]) -> Callable[..., Any]:
    """How a command of one function ends."""

    def run(work: Callable[[], None]) -> Any:
        app = typer.Typer()
        app.command()(work)
        return command(lambda: run_cli(app))

    return run


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("folder", "folder: is a directory. Give the path of a file"),
        ("file/below", "file: file exists. A file exists where a folder is expected"),
        ("file/below/it", "file/below: not a directory. A file exists where a folder is expected"),
    ],
)
def test_a_place_that_cannot_be_written(
    ends: Callable[..., Any], tmp_path: Path, place: str, said: str
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    ended = ends(lambda: write_text(tmp_path / place, "text"))
    assert (ended.code, ended.out) == (FilesError.exit_code, "")
    assert ended.err.startswith(f"error: {tmp_path}/{said}")
    assert ended.err.count("\n") == 1


def test_an_error_of_the_machine_without_a_file(ends: Callable[..., Any]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    ended = ends(full)
    assert ended.code == FilesError.exit_code
    assert (
        ended.err
        == "error: system: no space left on device. Free some space, or give another folder\n"
    )


@pytest.mark.parametrize("text", ["a\x1b]0;owned\x07b", "a\nerror: b", "a\u202eb", "a\x9b31mb"])
def test_an_error_is_one_line_that_no_terminal_obeys(ends: Callable[..., Any], text: str) -> None:
    def refuse() -> None:
        raise FilesError(text, where=f"/tmp/{text}")

    ended = ends(refuse)
    assert ended.err.count("\n") == 1
    assert all(c.isprintable() for c in ended.err[:-1])
