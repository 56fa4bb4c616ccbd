"""`mama-server`: the coordinator."""

from pathlib import Path
from typing import Annotated

import typer

from mama.cli_errors import run_cli

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def _root() -> None:
    """The coordinator."""


@app.command()
def report(run: Annotated[Path, typer.Argument(help="A run's folder")]) -> None:
    """Write report.html from what the run's folder holds."""
    from server.report import write_report

    typer.echo(write_report(run))


def main() -> None:
    """Entry point."""
    run_cli(app)
