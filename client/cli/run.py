"""Commands of the site's service."""

from typing import Annotated

import typer

from client.cli.app import RUN, SiteArgument, app
from mama.system.processes import untested_flower


@app.command(rich_help_panel=RUN)
def start(site: SiteArgument) -> None:
    """Run the site's service in the foreground until SIGTERM or Ctrl-C."""
    from client.service.daemon import serve
    from client.service.status import ServiceFolder
    from client.site.config import load_site

    if warning := untested_flower():
        typer.echo(f"WARN  {warning}")
    typer.echo(f"log file: {ServiceFolder(load_site(site)).log}")
    serve(site)


@app.command(rich_help_panel=RUN)
def status(
    site: SiteArgument,
    json: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Show the state of the service and the participating sites; exit code 12 if it cannot work."""
    from client.identity.roster import read_roster
    from client.policy.approval import Approvals
    from client.service.status import ServiceFolder, format_status, read_status
    from client.site.config import load_site
    from mama.errors import ServiceError

    settings = load_site(site)
    found = read_status(ServiceFolder(settings))
    waiting = len(Approvals(settings).listed())
    typer.echo(format_status(found, read_roster(settings), waiting, as_json=json))
    if not found.serving:
        raise typer.Exit(ServiceError.exit_code)


@app.command(rich_help_panel=RUN)
def clean(
    site: SiteArgument,
    run_: Annotated[
        str | None,
        typer.Option("--run", help="Only this run (name or prefix), including its final model"),
    ] = None,
) -> None:
    """Remove the working files of finished runs; records stay, final models too without --run."""
    from client.site.config import load_site
    from client.site.final_models import finals
    from client.training.clean import clean
    from mama.system.formats import size

    settings = load_site(site)
    cleaned = clean(settings, run_)
    for one in cleaned:
        typer.echo(f"{one.run}: {size(one.size)}: {', '.join(one.parts)}")
    typer.echo(f"freed {size(sum(one.size for one in cleaned))}")
    left = finals(settings.state)
    if left:
        kept = size(sum(count for *_, count in left))
        typer.echo(f"final models kept: {len(left)}, {kept} (`mama-site models`)")
