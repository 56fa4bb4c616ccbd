"""`mama-server`: the coordinator."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mama.cli_errors import run_cli
from mama.logs import LogOption, write_logs

if TYPE_CHECKING:
    from server.federation import Home

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


RunArgument = Annotated[Path, typer.Argument(help="A run's folder")]


@app.callback()
def _root(log: LogOption = None) -> None:
    """The coordinator."""
    write_logs(log)


FederationOption = Annotated[
    Path, typer.Option("--federation", help="The federation file", show_default=True)
]
PassphraseOption = Annotated[
    Path | None, typer.Option(help="A file with the passphrase of ca.key; else a terminal asks")
]
HERE = Path("federation.yaml")


@app.command()
def provision(
    federation: Annotated[Path, typer.Argument(help="The federation file")] = HERE,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Give ca.key a passphrase")] = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Make authority, server certificate and roster, once; a repetition re-mints nothing."""
    from server.provision import pin, provision

    encrypt = encrypt or passphrase_file is not None
    home = _home(federation, passphrase_file, new=encrypt)
    made = provision(home, encrypted=encrypt)
    typer.echo(f"made: {', '.join(made) or 'nothing, all is there'}")
    typer.echo(f"send every hospital {home.ca_certificate} and the address {home.file.address}")
    typer.echo(f"and read out this fingerprint by telephone: {pin(home)}")


@app.command()
def renew(federation: FederationOption = HERE, passphrase_file: PassphraseOption = None) -> None:
    """Make a new server certificate; a running service puts it into use by itself."""
    from server.certificates import days_left
    from server.provision import renew

    home = _home(federation, passphrase_file)
    renew(home)
    if not _waits(home):
        typer.echo(f"the certificate is good for {days_left(home.certificate):.0f} days")


@app.command()
def enrol(
    site: Annotated[str, typer.Argument(help="The site's name")],
    key: Annotated[Path, typer.Argument(help="Its public key, node.pub")],
    share: Annotated[float, typer.Option(help="Its public weight, agreed beforehand")] = 1.0,
    federation: FederationOption = HERE,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Let a site take part; a running service admits it by itself."""
    from mama.signing import file_fingerprint
    from server.roster import enrol
    from server.signature import site_certificate

    home = _home(federation, passphrase_file)
    typer.echo(str(enrol(home, site, key, share)))
    typer.echo(f"compare this fingerprint of {site}'s key by telephone: {file_fingerprint(key)}")
    if not _waits(home):
        certificate = site_certificate(home, site)
        typer.echo(f"for mutual TLS, if the door asks for it, send the site {certificate}")


@app.command()
def revoke(
    site: Annotated[str, typer.Argument(help="The site's name")],
    federation: FederationOption = HERE,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Take a site out; a running service shuts it out by itself."""
    from server.roster import revoke

    home = _home(federation, passphrase_file)
    typer.echo(str(revoke(home, site)))
    _waits(home)


@app.command()
def sign(
    request: Annotated[Path, typer.Argument(help="The unsigned.json of the coordinator")],
    authority: Annotated[Path, typer.Option(help="The folder of ca.crt and ca.key")] = Path("."),
    passphrase_file: PassphraseOption = None,
) -> None:
    """Sign what the coordinator asks for, on the machine that has ca.key; compare what it prints."""
    from mama.files import write_json
    from server.certificates import Authority
    from server.passphrase import passphrase_from
    from server.signature import read_request, sign

    wanted = read_request(request)
    for line in wanted.lines():
        typer.echo(line)
    passphrase = passphrase_from(passphrase_file)
    signed = sign(wanted, Authority.read(authority / "ca.crt", authority / "ca.key", passphrase))
    out = request.with_name("signed.json")
    write_json(out, signed.model_dump(mode="json"))
    typer.echo(f"signed: take {out} back, and `mama-server accept` it there")


@app.command()
def accept(
    signed: Annotated[Path, typer.Argument(help="What `mama-server sign` wrote")],
    federation: FederationOption = HERE,
) -> None:
    """Put what was signed elsewhere into use; a running service follows by itself."""
    from mama.locks import locked
    from server.federation import Home
    from server.signature import read_signed, take

    home, given = Home(federation), read_signed(signed)
    with locked(home.state / "roster.lock"):
        typer.echo(str(take(home, given, where=str(signed))))
    _waits(home)


@app.command()
def roster(federation: FederationOption = HERE) -> None:
    """Show which sites are enrolled, with their public shares."""
    from server.federation import Home
    from server.roster import read_roster

    home = Home(federation)
    typer.echo(str(read_roster(home)))
    _waits(home)


@app.command()
def bundle() -> None:
    """Print the hash of the bundle that comes with a run of this version, for a site's policy.bundles."""
    from server.control import bundle

    typer.echo(bundle().hash_str)


@app.command()
def start(federation: FederationOption = HERE) -> None:
    """Run the federation's service until it is told to stop."""
    from server.daemon import serve
    from server.federation import Home
    from server.provision import is_exposed

    home = Home(federation)
    if is_exposed(home):
        typer.echo(
            f"WARN  {home.ca_key} is not encrypted, and this service can read it: move it away"
        )
    typer.echo(f"serving {home.file.listen}; the log is {home.log}")
    serve(home)


@app.command()
def run(
    experiment: Annotated[Path, typer.Argument(help="The experiment")],
    out: Annotated[Path, typer.Option(help="Folder of the run")],
    federation: FederationOption = HERE,
) -> None:
    """Ask the service for a run and follow it; the same command re-attaches or continues."""
    from server.federation import Home
    from server.follow import follow, line_of, prepare, submit
    from server.jobs import ahead
    from server.warnings import warnings_at_start

    home = Home(federation)
    folder = prepare(home, experiment, out)
    asked = submit(home, out)
    typer.echo(f"fingerprint of the base models: {folder.latest().base.fingerprint}")
    before = ", ".join(path.name for path in ahead(home, asked))
    typer.echo(f"queued behind {before}" if before else "asked for")
    for line in warnings_at_start(out, home):
        typer.echo(f"WARN  {line}")
    try:
        job = follow(home, asked, lambda event: _say(line_of(event)))
    except KeyboardInterrupt:
        typer.echo("the run goes on; the same command follows it, `mama-server stop` ends it")
        return
    report = out / "report.html"
    typer.echo(f"{job.state}: {report if report.exists() else out}")


@app.command()
def rehearse(
    experiment: Annotated[Path, typer.Argument(help="The experiment")],
    out: Annotated[Path, typer.Option(help="Folder of the run that is rehearsed")],
    federation: FederationOption = HERE,
    json_: Annotated[bool, typer.Option("--json", help="As JSON")] = False,
) -> None:
    """Send every site random tensors of the run's size and have as many back: bytes, time and memory. Nobody trains."""
    from server.federation import Home
    from server.follow import follow, prepare, submit
    from server.rehearsal import REHEARSAL, RehearsalReport
    from server.roster import read_roster

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
    run: Annotated[Path, typer.Argument(help="A run's folder")],
    federation: FederationOption = HERE,
) -> None:
    """End a run; `mama-server run` with the same folder continues it."""
    from server.federation import Home
    from server.jobs import JobFile

    JobFile(Home(federation), run).ask_to_stop()
    typer.echo(f"asked to stop: {run}")


@app.command()
def report(run: RunArgument) -> None:
    """Write report.html from what the run's folder holds."""
    from server.report import write_report

    typer.echo(write_report(run))


@app.command()
def status(
    run: Annotated[Path | None, typer.Argument(metavar="[RUN]", help="A run's folder")] = None,
    json_: Annotated[bool, typer.Option("--json", help="As JSON")] = False,
    federation: FederationOption = HERE,
) -> None:
    """Show how a run stands, from its rounds.jsonl, and warn of what may stop it; without RUN, how the federation
    stands: service, certificate, sites and runs.
    """
    from rich.console import Console

    from server.federation import Home
    from server.overview import overview, tables
    from server.status import status, table
    from server.warnings import warnings

    if run is None:
        whole, found = overview(Home(federation)), list[str]()
    else:
        whole = status(run)
        # Without a federation on this machine, as after a simulation, there is less to warn of.
        home = Home(federation) if federation != HERE or HERE.exists() else None
        found = warnings(run, whole, home)
        whole |= {"warnings": found}
    if json_:
        typer.echo(json.dumps(whole, indent=1))
        return
    # What sites say is text, and no markup.
    console = Console(highlight=False, markup=False, emoji=False)
    console.print(tables(whole) if run is None else table(whole))
    for line in found:
        typer.echo(f"WARN  {line}")


@app.command()
def audit(run: RunArgument) -> None:
    """Check that no line of a run's logs was changed or lost, and print the audit log's last hash to note elsewhere.

    Each site's line is the one that `mama-site sent SITE.yaml RUN` prints there.
    """
    from mama.chain import read_chain
    from mama.errors import IntegrityError
    from server.audit import last_of_sites
    from server.folder import RunFolder
    from server.heads import AUDIT, losses, noted

    trail = read_chain(run / AUDIT)
    sites = len({entry["site"] for entry in trail.entries if "site" in entry})
    typer.echo(f"{len(trail.entries)} entries from {sites} sites, unbroken")
    if trail.torn:
        typer.echo("a crash tore the line after them; the next start removes it")
    for line in last_of_sites(trail.entries):
        typer.echo(line)
    typer.echo(f"last hash: {trail.head}")
    folder = RunFolder(run)
    lost = [*losses(run, folder.state().heads), *noted(trail.entries, folder.events())]
    if lost:
        raise IntegrityError(
            "; ".join(map(str, lost)), where=str(run), fix="Compare with a copy of the log"
        )


def _home(federation: Path, passphrase_file: Path | None, *, new: bool = False) -> "Home":
    from server.federation import Home
    from server.passphrase import passphrase_from

    return Home(federation, passphrase_from(passphrase_file, new=new))


def _waits(home: "Home") -> bool:
    """Say what waits for a signature from the machine with ca.key; whether something does."""
    from server.signature import waiting_request

    waiting = waiting_request(home)
    if waiting:
        typer.echo(f"waits for a signature: roster version {waiting.roster.version}")
        typer.echo(f"take {home.unsigned} to the machine with ca.key, and `mama-server sign` it")
    return waiting is not None


def _say(line: str | None) -> None:
    if line:
        typer.echo(line)


def main() -> None:
    """Entry point."""
    run_cli(app)
