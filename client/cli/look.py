"""Commands that show what was done: report, models, sent figures, ledger."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from client.cli.app import LOOK, JsonOption, SiteArgument, app


@app.command(rich_help_panel=LOOK)
def report(
    site: SiteArgument,
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Run name, or a run folder (this site's or a copy)"),
    ],
    local: Annotated[
        Path | None,
        typer.Option(help="Model trained on this site alone by `mama train`, for comparison"),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Output page; default: beside the site file")
    ] = None,
) -> None:
    """Write the site's private report: gain from the run, images and model predictions.

    RUN may also be a run's final/ folder, or the output folder of `mama train`. The page shows
    patient data and stays at the site.
    """
    from client.report.page import write_site_report
    from client.site.config import load_site
    from client.site.final_models import folder_of

    # As in the service: a missing base model becomes a remark in the report, not a download.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    settings = load_site(site)
    page = out or site.parent / "site_report.html"
    typer.echo(write_site_report(settings, folder_of(settings, run), page, local))


@app.command(rich_help_panel=LOOK)
def models(site: SiteArgument, json_: JsonOption = False) -> None:
    """List the final models of this site's runs."""
    from client.site.config import load_site
    from client.site.final_models import finals
    from mama.system.formats import counted, size

    found = finals(load_site(site).state)
    if json_:
        rows = [r.model_dump() | {"folder": str(f), "bytes": count} for f, r, count in found]
        typer.echo(json.dumps(rows, indent=1))
        return
    for folder, record, count in found:
        rounds = counted(record.rounds, "round")
        typer.echo(f"{record.finished}  {record.experiment}  {rounds}  {size(count)}")
        typer.echo(f"  sha256 {record.model}")
        typer.echo(f"  {folder}")
    if not found:
        typer.echo("no run has finished yet")


@app.command(rich_help_panel=LOOK)
def sent(
    site: SiteArgument,
    run_: Annotated[
        str | None, typer.Argument(metavar="[RUN]", help="Run name, or a unique prefix of it")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List all data sent by this site with size and SHA-256; fails if the record was modified."""
    from rich.console import Console

    from client.privacy.sent import SentRecord, answers_of
    from client.privacy.sent_view import figure_lines, last_line, table
    from client.site.config import load_site

    settings = load_site(site)
    trail = SentRecord(settings).read()
    entries = answers_of(trail, run_)
    if json_:
        typer.echo(json.dumps(entries, indent=1))
        return
    Console(highlight=False, markup=False, emoji=False).print(table(entries))
    for line in (*figure_lines(entries), *last_line(settings.site, entries)):
        typer.echo(line)
    typer.echo(f"{len(entries)} answers, record intact; last hash: {trail.head}")


@app.command(rich_help_panel=LOOK)
def ledger(
    site: SiteArgument,
    plot: Annotated[
        Path | None, typer.Option(help="Also plot the ledger to this .png, .svg or .pdf")
    ] = None,
    group_size: Annotated[
        int | None, typer.Option(min=2, help="privacy.group_size, to show the cost of empty slots")
    ] = None,
) -> None:
    """Show the privacy budget spent by private training over all runs.

    Fails, after showing the ledger, if steps recorded in this site's runs are missing from it, or
    if the dataset's pseudonyms were made with another key than the site's.
    """
    from rich.console import Console

    from client.privacy import ledger_view
    from client.privacy.round import known_heads, site_ledger
    from client.site.config import load_site
    from client.site.dataset import require_own_key

    settings = load_site(site)
    book = site_ledger(settings)
    Console(highlight=False).print(ledger_view.table(book))
    for line in (*ledger_view.totals(book), ledger_view.slot_usage(settings, group_size)):
        typer.echo(line)
    if plot:
        typer.echo(ledger_view.plot(book, plot))
    book.require(known_heads(settings))
    require_own_key(settings)
