"""Command-line app, and the shared parts of its commands."""

from pathlib import Path
from typing import Annotated

import typer

from mama.system.logs import LogOption, write_logs

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="`mama-server`: the coordinator."
)
base = typer.Typer(no_args_is_help=True, help="Base models on this machine.")
app.add_typer(base, name="base")

RunArgument = Annotated[Path, typer.Argument(help="Folder of the run")]
FederationOption = Annotated[
    Path, typer.Option("--federation", help="The federation file", show_default=True)
]
PassphraseOption = Annotated[
    Path | None, typer.Option(help="File with the passphrase of ca.key; prompts if omitted")
]
HERE = Path("federation.yaml")


@app.callback()
def _root(log: LogOption = None) -> None:
    """The coordinator."""
    write_logs(log)
