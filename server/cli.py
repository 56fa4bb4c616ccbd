"""`mama-server`: the coordinator."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mama.cli_errors import run_cli
from mama.logs import LogOption, write_logs

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


RunArgument = Annotated[Path, typer.Argument(help="A run's folder")]


@app.callback()
def _root(log: LogOption = None) -> None:
    """The coordinator."""
    write_logs(log)


@app.command()
def report(run: RunArgument) -> None:
    """Write report.html from what the run's folder holds."""
    from server.report import write_report

    typer.echo(write_report(run))


@app.command()
def status(
    run: RunArgument, json_: Annotated[bool, typer.Option("--json", help="As JSON")] = False
) -> None:
    """Show how a run stands, from its rounds.jsonl."""
    from rich.console import Console

    from server.status import status, table

    whole = status(run)
    if json_:
        typer.echo(json.dumps(whole, indent=1))
    else:
        Console(highlight=False).print(table(whole))


@app.command()
def audit(run: RunArgument) -> None:
    """Check that no line of a run's audit log was changed, and print the last line's hash to note elsewhere."""
    from server.audit import read_audit

    trail = read_audit(run / "audit.jsonl")
    sites = len({entry["site"] for entry in trail.entries if "site" in entry})
    typer.echo(f"{len(trail.entries)} entries from {sites} sites, unbroken")
    if trail.torn:
        typer.echo("a crash tore the line after them; the next start removes it")
    typer.echo(f"last hash: {trail.head}")


def main() -> None:
    """Entry point."""
    run_cli(app)
