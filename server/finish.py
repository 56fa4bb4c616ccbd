"""What is made of a run when it has ended: its report, and the model when it is complete."""

from collections.abc import Mapping
from pathlib import Path

from server.folder import RunFolder
from server.report import write_report
from server.towers import write_final


def finish(folder: RunFolder, models: Mapping[str, Path], *, complete: bool) -> None:
    """Write report.html, and of a complete run final/."""
    write_report(folder.path)
    if complete:
        write_final(folder, models)
