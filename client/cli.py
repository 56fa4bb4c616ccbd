"""`mama-site`: one hospital."""

import json
import os
from pathlib import Path
from typing import Annotated

import typer

from mama.cli_errors import run_cli
from mama.logs import LogOption, write_logs

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

base = typer.Typer(no_args_is_help=True, help="Base models on this machine.")
app.add_typer(base, name="base")

SiteArgument = Annotated[Path, typer.Argument(help="The hospital's site file")]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON")]


@app.callback()
def _root(log: LogOption = None) -> None:
    """One hospital."""
    write_logs(log)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The site's folder, made here")],
    site: Annotated[str, typer.Option(help="The name the coordinator enrols")],
    source: Annotated[Path, typer.Option(help="Folder of images and reports")],
    address: Annotated[str, typer.Option(help="The coordinator's host:port")],
    certificate: Annotated[Path, typer.Option(help="The coordinator's ca.crt")],
) -> None:
    """Make a site: folder, site file and key pair. The private key never leaves it."""
    from client.enrolment import authority_key, init_site
    from mama.signing import file_fingerprint, fingerprint

    key = init_site(folder, site, source, address, certificate)
    typer.echo(f"send the coordinator {key}")
    typer.echo(f"its fingerprint, which `mama-server enrol` prints too: {file_fingerprint(key)}")
    typer.echo(f"compare this fingerprint by telephone: {fingerprint(authority_key(certificate))}")


@app.command()
def new_key(site: SiteArgument) -> None:
    """Make a new key pair for a site whose key was lost or revoked; the coordinator must enrol it."""
    from client.enrolment import new_key_pair
    from client.service import ServiceFolder
    from client.sitefile import load_site
    from mama.signing import file_fingerprint

    public = new_key_pair(ServiceFolder(load_site(site)).coordinator.key)
    typer.echo(f"send the coordinator {public}, and start the service again when it is enrolled")
    typer.echo(f"its fingerprint, which `mama-server enrol` prints too: {file_fingerprint(public)}")


@app.command()
def check(
    site: SiteArgument,
    experiment: Annotated[
        Path | None, typer.Option(help="Also try this experiment: policy, models, one step")
    ] = None,
    fingerprint: Annotated[
        str, typer.Option(help="Of the coordinator's base models, as `mama-server run` prints it")
    ] = "",
) -> None:
    """Look at all that the site needs before it trains; exit code 1 if something fails."""
    from client.preflight.run import preflight
    from client.sitefile import load_site
    from mama.config import Experiment
    from mama.configfile import load

    # As in the service: what is missing is told, not fetched.
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    failed = False
    wanted = load(Experiment, experiment, without=["simulation"]) if experiment else None
    for found in preflight(load_site(site), wanted, fingerprint):
        typer.echo(str(found))
        failed |= found.verdict == "FAIL"
    if failed:
        raise typer.Exit(1)


@app.command()
def start(site: SiteArgument) -> None:
    """Run the site's service until it is told to stop."""
    from client.daemon import serve
    from client.service import ServiceFolder
    from client.sitefile import load_site

    typer.echo(f"the log is {ServiceFolder(load_site(site)).log}")
    serve(site)


@app.command()
def status(
    site: SiteArgument,
    json: Annotated[bool, typer.Option("--json", help="As JSON")] = False,
) -> None:
    """Say whether the service can work, and if not why (exit code 12 then), and who else takes part."""
    from client.approval import Approvals
    from client.roster import read_roster
    from client.service import ServiceFolder, read_status, tell_status
    from client.sitefile import load_site
    from mama.errors import ServiceError

    settings = load_site(site)
    found = read_status(ServiceFolder(settings))
    waiting = len(Approvals(settings).listed())
    typer.echo(tell_status(found, read_roster(settings), waiting, as_json=json))
    if not found.serving:
        raise typer.Exit(ServiceError.exit_code)


@app.command()
def policy(
    site: SiteArgument,
    experiment: Annotated[
        Path | None, typer.Option("--explain", help="An experiment's file")
    ] = None,
    accept_: Annotated[
        bool, typer.Option("--accept", help="Put a policy in force that became weaker")
    ] = False,
) -> None:
    """Say what the site would answer to an experiment, rule by rule: its policy, budget and patients.

    Without an experiment: whether the policy is weaker than the one in force.
    """
    from datetime import datetime

    from client.in_force import accept, refuse_weaker, weaker
    from client.patients import sentences
    from client.policy import explain, review
    from client.sitefile import load_site
    from mama.config import Experiment
    from mama.configfile import load

    settings = load_site(site)
    if accept_:
        typer.echo(weaker(settings) or "the policy is nowhere weaker than before")
        accept(settings)
        typer.echo("the site file's policy is in force")
    if experiment is None:
        refuse_weaker(settings)
        return
    asked = load(Experiment, experiment, without=["simulation"])
    found = list(review(settings, asked, datetime.now()))
    if asked.privacy.mode == "patient":
        # Imported late: Opacus takes seconds to load.
        from client.private_terms import review_private

        found += review_private(settings, asked)
    typer.echo(explain(found))
    for line in sentences(settings, asked):
        typer.echo(f"what leaves: {line}")
    if not all(finding.passes for finding in found):
        raise typer.Exit(1)


@app.command()
def approve(
    site: SiteArgument,
    experiment: Annotated[
        str | None,
        typer.Argument(help="Its hash, or 8 or more of its first digits; none lists those"),
    ] = None,
    withdraw: Annotated[bool, typer.Option(help="Take the approval back")] = False,
    runs: Annotated[int, typer.Option(min=1, help="For so many runs in all")] = 1,
    model: Annotated[
        str, typer.Option(help="Checksum of a first model other than the one built here")
    ] = "",
    join: Annotated[
        str, typer.Option(help="A run whose model is taken as it is when this site comes to it")
    ] = "",
) -> None:
    """Approve an experiment, or list those that wait for it, with what each would let out, and those approved."""
    from client.approval import Approvals
    from client.patients import sentences
    from client.sitefile import load_site
    from mama.config import Experiment
    from mama.configfile import load

    settings = load_site(site)
    approvals = Approvals(settings)
    if experiment is None:
        for path in approvals.listed():
            waiting = load(Experiment, path)
            typer.echo(f"{path.stem}\n  {waiting.name}, {path}")
            for line in sentences(settings, waiting):
                typer.echo(f"  {line}")
        if not approvals.listed():
            typer.echo("no experiment waits")
        for line in approvals.given():
            typer.echo(line)
    elif withdraw:
        typer.echo(approvals.withdraw(approvals.whole(experiment)))
    else:
        known = approvals.approve(approvals.whole(experiment), runs, model, join)
        typer.echo("approved" if known else "approved beforehand: no such experiment waits now")


@base.command()
def add(
    site: SiteArgument,
    folder: Annotated[Path, typer.Argument(help="Folder with the model's safetensors")],
    name: Annotated[
        str | None, typer.Option(help="The experiments' name for it; the folder's if left out")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Its licence; the licence file's first line if left out")
    ] = None,
) -> None:
    """Enter base weights that were brought here by hand in the site file; nothing is fetched and nothing is run."""
    from client.bases import add_base

    for line in add_base(site, folder, name, licence).lines():
        typer.echo(line)


@app.command()
def ingest(
    site: SiteArgument,
    long_side: Annotated[
        int, typer.Option(min=16, max=4096, help="Larger side of the experiment's image size")
    ],
) -> None:
    """Read the hospital's images and reports into its dataset; safe to repeat."""
    from client.consent import withdrawal_of
    from client.prepare import prepare
    from client.sitefile import load_site

    settings = load_site(site)
    report = prepare(settings, long_side)
    typer.echo(f"{report.studies} studies, {report.images} images, {report.cached} from the cache")
    for remark in report.remarks():
        typer.echo(remark)
    if settings.data.withdrawn:
        typer.echo(f"withdrawn: {withdrawal_of(settings)}")


@app.command()
def report(
    site: SiteArgument,
    model: Annotated[Path, typer.Argument(help="A run's final/ folder")],
    out: Annotated[
        Path | None, typer.Option(help="Where the page goes; not given: beside the site file")
    ] = None,
) -> None:
    """Write the hospital's own report: its images, the model's answers. It stays at the site."""
    from client.report import write_site_report
    from client.sitefile import load_site

    page = out or site.parent / "site_report.html"
    typer.echo(write_site_report(load_site(site), model, page))


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
        typer.echo(f"  sha256 {record.model}")
        typer.echo(f"  {folder}")
    if not found:
        typer.echo("no run has ended yet")


@app.command()
def sent(
    site: SiteArgument,
    run_: Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run's name")] = None,
    json_: JsonOption = False,
) -> None:
    """List everything that this hospital sent, with size and SHA-256; the command fails if the record was changed."""
    from rich.console import Console

    from client.sent import SentRecord, answers_of
    from client.sent_view import figure_lines, last_line, table
    from client.sitefile import load_site

    settings = load_site(site)
    trail = SentRecord(settings).read()
    entries = answers_of(trail, run_)
    if json_:
        typer.echo(json.dumps(entries, indent=1))
        return
    Console(highlight=False, markup=False, emoji=False).print(table(entries))
    for line in (*figure_lines(entries), *last_line(settings.site, entries)):
        typer.echo(line)
    typer.echo(f"{len(entries)} answers, unbroken; last hash: {trail.head}")


@app.command()
def ledger(
    site: SiteArgument,
    plot: Annotated[Path | None, typer.Option(help="Draw it: a .png, .svg or .pdf")] = None,
    group_size: Annotated[
        int | None, typer.Option(min=2, help="An experiment's, for the cost of empty slots")
    ] = None,
) -> None:
    """Show what private training has spent of the patients' budget, over all runs.

    A ledger that lacks steps which this site's own runs remember is shown, and the command fails; so it does where
    the dataset's patients have their pseudonyms from another key than the site's.
    """
    from rich.console import Console

    from client import ledger_view
    from client.consent import require_own_key
    from client.private import known_heads, site_ledger
    from client.sitefile import load_site

    settings = load_site(site)
    book = site_ledger(settings)
    Console(highlight=False).print(ledger_view.table(book))
    for line in (*ledger_view.totals(book), ledger_view.seats(settings, group_size)):
        typer.echo(line)
    if plot:
        typer.echo(ledger_view.plot(book, plot))
    book.require(known_heads(settings))
    require_own_key(settings)


def main() -> None:
    """Entry point."""
    run_cli(app)
