"""Commands of the service and its runs."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mama.system.processes import untested_flower
from server.cli.app import HERE, FederationOption, RunArgument, app

if TYPE_CHECKING:
    pass


@app.command()
def start(federation: FederationOption = HERE) -> None:
    """Run the federation's service in the foreground until it is stopped."""
    from server.federation.home import Home
    from server.federation.provision import is_exposed
    from server.service.daemon import serve

    home = Home(federation)
    if is_exposed(home):
        typer.echo(
            f"WARN  {home.ca_key} is unencrypted and readable by this service: encrypt or move it"
        )
    if warning := untested_flower():
        typer.echo(f"WARN  {warning}")
    typer.echo(f"listening on {home.file.listen}; log: {home.log}")
    serve(home)


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="The experiment file")],
    out: Annotated[Path, typer.Option(help="Folder of the run")],
    federation: FederationOption = HERE,
) -> None:
    """Submit a run and follow it; the same command re-attaches to it or resumes it."""
    from server.federation.home import Home
    from server.service.follow import follow, line_of, prepare, submit
    from server.service.jobs import ahead
    from server.service.warnings import warnings_at_start

    home = Home(federation)
    folder = prepare(home, experiment, out)
    submitted = submit(home, out)
    typer.echo(f"fingerprint of the base models: {folder.latest().base.fingerprint}")
    before = ", ".join(path.name for path in ahead(home, submitted))
    typer.echo(f"queued behind {before}" if before else "submitted")
    for line in warnings_at_start(out, home):
        typer.echo(f"WARN  {line}")
    try:
        job = follow(home, submitted, lambda event: _echo(line_of(event)))
    except KeyboardInterrupt:
        typer.echo("the run continues; repeat the command to follow, `mama-server stop` to end it")
        return
    report = out / "report.html"
    typer.echo(f"{job.state}: {report if report.exists() else out}")


@app.command()
def rehearse(
    experiment: Annotated[Path, typer.Argument(help="The experiment file")],
    out: Annotated[Path, typer.Option(help="Folder of the run to rehearse")],
    federation: FederationOption = HERE,
    json_: Annotated[bool, typer.Option("--json", help="As JSON")] = False,
) -> None:
    """Exchange random tensors of the run's size with every connected site.

    Reports bytes, transfer time and peak memory. Nothing is trained.
    """
    from server.federation.home import Home
    from server.federation.roster import read_roster
    from server.round.rehearsal import REHEARSAL, RehearsalReport
    from server.service.follow import follow, prepare, submit

    home = Home(federation)
    prepare(home, experiment, out)
    follow(home, submit(home, out, "rehearsal"), lambda event: None)
    report = RehearsalReport.read(out / REHEARSAL)
    if json_:
        typer.echo(json.dumps(report.figures(), indent=1))
        return
    silent = {member.site for member in read_roster(home).active} - {
        *report.sites,
        *report.problems,
    }
    for line in (*report.lines(), *(f"{site}: no answer" for site in sorted(silent))):
        typer.echo(line)


@app.command()
def stop(
    run: RunArgument,
    federation: FederationOption = HERE,
) -> None:
    """Stop a run; `mama-server run` with the same folder resumes it."""
    from server.federation.home import Home
    from server.service.jobs import JobFile

    JobFile(Home(federation), run).ask_to_stop()
    typer.echo(f"stop requested: {run}")


@app.command()
def report(run: RunArgument) -> None:
    """Write report.html for a run."""
    from server.report.page import write_report

    typer.echo(write_report(run))


@app.command()
def status(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="Folder of the run")] = None,
    json_: Annotated[bool, typer.Option("--json", help="As JSON")] = False,
    federation: FederationOption = HERE,
) -> None:
    """Show the status of a run with warnings, or without RUN that of the federation.

    The status of a run is read from its rounds.jsonl; that of the federation covers service,
    certificate, sites and runs.
    """
    from rich.console import Console

    from server.federation.home import Home
    from server.report.statistics_view import of_status
    from server.report.status import status, table
    from server.service.overview import overview, tables
    from server.service.warnings import warnings

    if run is None:
        whole, found = overview(Home(federation)), list[str]()
    else:
        whole = status(run)
        # Without a federation on this machine, as after a simulation, fewer checks apply.
        home = Home(federation) if federation != HERE or HERE.exists() else None
        found = warnings(run, whole, home)
        whole |= {"warnings": found}
    if json_:
        typer.echo(json.dumps(whole, indent=1))
        return
    # Text from sites is never interpreted as markup.
    console = Console(highlight=False, markup=False, emoji=False)
    for part in [tables(whole)] if run is None else [table(whole), *of_status(whole)]:
        console.print(part)
    for line in found:
        typer.echo(f"WARN  {line}")


@app.command()
def metrics(
    out: Annotated[
        Path | None, typer.Option(help="File for a textfile collector; default: standard output")
    ] = None,
    federation: FederationOption = HERE,
) -> None:
    """Print the federation's status as Prometheus metrics."""
    from mama.system.files import write_bytes
    from server.federation.home import Home
    from server.service.prometheus import metrics

    text = metrics(Home(federation))
    if out is None:
        typer.echo(text, nl=False)
    else:
        # Readable by all: the collector runs as another user.
        write_bytes(out, text.encode(), private=False)


@app.command()
def audit(run: RunArgument) -> None:
    """Verify that no line of a run's logs was changed or lost, and print the last hash.

    Store the hash elsewhere. Each site's line must equal the output of
    `mama-site sent SITE.yaml RUN` at the site.
    """
    from mama.errors import IntegrityError
    from mama.system.journal import read_chain
    from server.run.audit import last_of_sites
    from server.run.folder import RunFolder
    from server.run.log_heads import AUDIT, losses, noted

    trail = read_chain(run / AUDIT)
    sites = len({entry["site"] for entry in trail.entries if "site" in entry})
    typer.echo(f"{len(trail.entries)} entries from {sites} sites, unbroken")
    if trail.torn:
        typer.echo("the last line is incomplete after a crash; the next start removes it")
    for line in last_of_sites(trail.entries):
        typer.echo(line)
    typer.echo(f"last hash: {trail.head}")
    folder = RunFolder(run)
    lost = [*losses(run, folder.state().heads), *noted(trail.entries, folder.events())]
    if lost:
        raise IntegrityError(
            "; ".join(map(str, lost)), where=str(run), fix="Compare with a backup of the log"
        )


def _echo(line: str | None) -> None:
    if line:
        typer.echo(line)
