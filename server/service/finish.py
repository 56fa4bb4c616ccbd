"""Output of an ended run: its report and, if it is complete, the final model."""

from collections.abc import Mapping
from pathlib import Path

from server.report.page import write_report
from server.run.folder import RunFolder
from server.run.global_model import write_final


def finish(folder: RunFolder, models: Mapping[str, Path], *, complete: bool) -> None:
    """Write report.html and, for a complete run, final/."""
    write_report(folder.path)
    if complete:
        write_final(folder, models)
