"""Commands that set a site up."""

import os
from pathlib import Path
from typing import Annotated

import typer

from client.cli.app import SET_UP, SiteArgument, app, base
from mama.system.processes import importing


@app.command(rich_help_panel=SET_UP)
def init(
    folder: Annotated[Path, typer.Argument(help="Folder of the new site")],
    site: Annotated[str, typer.Option(help="Site name, as the coordinator will enrol it")],
    source: Annotated[Path, typer.Option(help="Folder of images and reports")],
    address: Annotated[str, typer.Option(help="Address of the coordinator, host:port")],
    certificate: Annotated[Path, typer.Option(help="The coordinator's ca.crt")],
) -> None:
    """Create a site: folder, site file and key pair. The private key never leaves the folder."""
    from client.identity.enrolment import authority_key, init_site
    from mama.exchange.signing import file_fingerprint, fingerprint

    key = init_site(folder, site, source, address, certificate)
    typer.echo(f"send {key} to the coordinator")
    typer.echo(f"its fingerprint, as `mama-server enrol` prints it: {file_fingerprint(key)}")
    typer.echo(
        "compare the coordinator's fingerprint by telephone: "
        f"{fingerprint(authority_key(certificate))}"
    )


@app.command(rich_help_panel=SET_UP)
def new_key(site: SiteArgument) -> None:
    """Create a new key pair to replace a lost or revoked key; the coordinator must enrol it."""
    from client.identity.enrolment import new_key_pair
    from client.service.status import ServiceFolder
    from client.site.config import load_site
    from mama.exchange.signing import file_fingerprint

    public = new_key_pair(ServiceFolder(load_site(site)).coordinator.key)
    typer.echo(f"send {public} to the coordinator; restart the service once it is enrolled")
    typer.echo(f"its fingerprint, as `mama-server enrol` prints it: {file_fingerprint(public)}")


@app.command(rich_help_panel=SET_UP)
def check(
    site: SiteArgument,
    experiment: Annotated[
        Path | None, typer.Option(help="Also check this experiment: policy, base models, one step")
    ] = None,
    fingerprint: Annotated[
        str,
        typer.Option(
            help="Fingerprint of the coordinator's base models, as `mama-server run` prints it"
        ),
    ] = "",
) -> None:
    """Check everything that the site needs for training; exit code 1 if a check fails."""
    with importing():
        from client.preflight.run import preflight
        from client.site.config import load_site
        from mama.config import Experiment
        from mama.config.load import load

    # As in the service: a missing base model is reported, not downloaded.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    failed = False
    wanted = load(Experiment, experiment, without=["simulation"]) if experiment else None
    for found in preflight(load_site(site), wanted, fingerprint):
        typer.echo(str(found))
        failed |= found.verdict == "FAIL"
    if failed:
        raise typer.Exit(1)


@app.command(rich_help_panel=SET_UP)
def ingest(
    site: SiteArgument,
    long_side: Annotated[
        int, typer.Option(min=16, max=4096, help="Larger side of the experiment's image size")
    ],
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove studies that are gone, however many they are")
    ] = False,
) -> None:
    """Read images and reports into the site's dataset; safe to repeat."""
    from client.site.config import load_site
    from client.site.dataset import withdrawal_of
    from client.site.ingest import prepare, pull_studies
    from mama.system.cli import unfit_data_as_configuration
    from mama.system.console import stage_bars

    settings = load_site(site)
    with unfit_data_as_configuration(), stage_bars() as progress:
        pulled = pull_studies(settings, progress)
        report = prepare(settings, long_side, progress, prune=prune)
    for line in (*(pulled.lines() if pulled else ()), *report.lines(settings.data.dataset)):
        typer.echo(line)
    if settings.data.withdrawn:
        typer.echo(f"withdrawn: {withdrawal_of(settings)} (counted above)")
    raise typer.Exit(max(report.exit_code, pulled.exit_code if pulled else 0))


@base.command()
def add(
    site: SiteArgument,
    folder: Annotated[Path, typer.Argument(help="Folder with the model's safetensors")],
    name: Annotated[
        str | None, typer.Option(help="Name in experiments; default: the folder's name")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Licence; default: first line of the licence file")
    ] = None,
) -> None:
    """Register a local folder of base weights in the site file; downloads and executes nothing."""
    from client.site.base_models import add_base

    for line in add_base(site, folder, name, licence).lines():
        typer.echo(line)
