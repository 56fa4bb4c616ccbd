"""`mama-site`: one hospital."""

from pathlib import Path
from typing import Annotated

import typer

from mama.cli_errors import run_cli

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

SiteArgument = Annotated[Path, typer.Argument(help="The hospital's site file")]


@app.callback()
def _root() -> None:
    """One hospital."""


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


def main() -> None:
    """Entry point."""
    run_cli(app)
