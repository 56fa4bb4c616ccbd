"""`mama-server`: writes a run's report again, or says in one line why not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from server.cli import main


def test_a_report_is_written_again(
    command: Callable[..., Any], run_federation: Callable[..., Any]
) -> None:
    outcome = run_federation(
        lambda site, kind, number, header, data: (header, data), "federation.rounds=1"
    )
    page = outcome.folder.path / "report.html"
    assert not page.exists()
    ended = command(main, "report", outcome.folder.path)
    assert (ended.code, ended.out, ended.err) == (0, f"{page}\n", "")
    assert "cedar" in page.read_text()


def test_a_folder_without_a_run(command: Callable[..., Any], tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        ended = command(main, "report", folder)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == f"error: {folder}: holds no run's outcome. Give a run's folder\n"
    assert list(tmp_path.iterdir()) == []
