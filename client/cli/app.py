"""Typer app of `mama-site` and the shared arguments of its commands."""

from pathlib import Path
from typing import Annotated

import typer

from mama.system.logs import LogOption, write_logs

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="`mama-site`: take part in federated training as one hospital.",
)
base = typer.Typer(no_args_is_help=True, help="Base models on this machine.")
SET_UP, RUN, DECIDE, LOOK = "Set up", "Run", "Decide", "Look"
app.add_typer(base, name="base", rich_help_panel=SET_UP)

SiteArgument = Annotated[Path, typer.Argument(help="The hospital's site file")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON")]


@app.callback()
def _root(log: LogOption = None) -> None:
    """Take part in federated training as one hospital."""
    write_logs(log)
