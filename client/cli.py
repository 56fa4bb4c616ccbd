"""`mama-site`: one hospital."""

import json
from pathlib import Path
from typing import Annotated

import typer

from mama.cli_errors import run_cli
from mama.logs import LogOption, write_logs

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

SiteArgument = Annotated[Path, typer.Argument(help="The hospital's site file")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON")]


@app.callback()
def _root(log: LogOption = None) -> None:
    """One hospital."""
    write_logs(log)


@app.command()
def ingest(
    site: SiteArgument,
    long_side: Annotated[
        int, typer.Option(min=16, max=4096, help="Larger side of the experiment's image size")
    ],
) -> None:
    """Read the hospital's images and reports into its dataset; safe to repeat."""
    from client.prepare import prepare
    from client.sitefile import load_site

    report = prepare(load_site(site), long_side)
    typer.echo(f"{report.studies} studies, {report.images} images, {report.cached} from the cache")
    for remark in report.remarks():
        typer.echo(remark)


@app.command()
def report(
    site: SiteArgument,
    model: Annotated[Path, typer.Argument(help="A run's final/ folder")],
    out: Annotated[Path, typer.Option(help="Where the page goes")] = Path("site_report.html"),
) -> None:
    """Write the hospital's own report: its images, the model's answers. It stays at the site."""
    from client.report import write_site_report
    from client.sitefile import load_site

    typer.echo(write_site_report(load_site(site), model, out))


@app.command()
def models(site: SiteArgument, json_: JsonOption = False) -> None:
    """List the final models of the runs that this site took part in."""
    from client.finals import finals
    from client.sitefile import load_site

    found = finals(load_site(site).state)
    if json_:
        rows = [r.model_dump() | {"folder": str(f), "bytes": size} for f, r, size in found]
        typer.echo(json.dumps(rows, indent=1))
        return
    for folder, record, size in found:
        typer.echo(
            f"{record.finished}  {record.experiment}  {record.rounds} rounds  {size / 1e6:.0f} MB"
        )
        typer.echo(f"  sha256 {record.sha256}")
        typer.echo(f"  {folder}")
    if not found:
        typer.echo("no run has ended yet")


@app.command()
def ledger(
    site: SiteArgument,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a .png, .svg or .pdf")] = None,
    group_size: Annotated[int, typer.Option(min=2, help="For the cost of empty slots")] = 16,
) -> None:
    """Show what private training has spent of the patients' budget, over all runs."""
    from rich.console import Console

    from client import ledger_view
    from client.private import site_ledger
    from client.sitefile import load_site

    settings = load_site(site)
    book = site_ledger(settings)
    Console(highlight=False).print(ledger_view.table(book))
    for line in (*ledger_view.totals(book), ledger_view.seats(settings, group_size)):
        typer.echo(line)
    if plot:
        typer.echo(ledger_view.plot(book, plot))


def main() -> None:
    """Entry point."""
    run_cli(app)
