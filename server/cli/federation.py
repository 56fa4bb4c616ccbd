"""Commands of the federation: certificates, roster, base models."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from server.cli.app import HERE, FederationOption, PassphraseOption, app, base

if TYPE_CHECKING:
    from server.federation.home import Home


@app.command()
def provision(
    federation: Annotated[Path, typer.Argument(help="The federation file")] = HERE,
    encrypt: Annotated[bool, typer.Option("--encrypt", help="Encrypt ca.key")] = False,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Create the CA, server certificate and an empty roster. Existing files are kept."""
    from server.federation.provision import pin, provision

    encrypt = encrypt or passphrase_file is not None
    home = _home(federation, passphrase_file, new=encrypt)
    made = provision(home, encrypted=encrypt)
    typer.echo(f"created: {', '.join(made) or 'nothing, everything exists already'}")
    typer.echo(f"send every hospital {home.ca_certificate} and the address {home.file.address}")
    typer.echo(f"and confirm this fingerprint by telephone: {pin(home)}")


@app.command()
def renew(federation: FederationOption = HERE, passphrase_file: PassphraseOption = None) -> None:
    """Issue a new server certificate; a running service switches to it automatically."""
    from server.federation.certificates import days_left
    from server.federation.provision import renew

    home = _home(federation, passphrase_file)
    renew(home)
    if not _report_pending(home):
        typer.echo(f"the certificate is valid for {days_left(home.certificate):.0f} days")


@app.command()
def enrol(
    site: Annotated[str, typer.Argument(help="Name of the site")],
    key: Annotated[Path, typer.Argument(help="Its public key, node.pub")],
    share: Annotated[float, typer.Option(help="Its public weight, agreed beforehand")] = 1.0,
    federation: FederationOption = HERE,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Enrol a site; a running service admits it automatically."""
    from mama.exchange.signing import file_fingerprint
    from server.federation.authority import site_certificate
    from server.federation.roster import enrol

    home = _home(federation, passphrase_file)
    typer.echo(str(enrol(home, site, key, share)))
    typer.echo(f"compare this fingerprint of {site}'s key by telephone: {file_fingerprint(key)}")
    if not _report_pending(home):
        certificate = site_certificate(home, site)
        typer.echo(f"if your proxy requires mutual TLS, send the site {certificate}")


@app.command()
def revoke(
    site: Annotated[str, typer.Argument(help="Name of the site")],
    federation: FederationOption = HERE,
    passphrase_file: PassphraseOption = None,
) -> None:
    """Revoke a site; a running service disconnects it automatically."""
    from server.federation.roster import revoke

    home = _home(federation, passphrase_file)
    typer.echo(str(revoke(home, site)))
    _report_pending(home)


@app.command()
def sign(
    request: Annotated[Path, typer.Argument(help="The coordinator's unsigned.json")],
    authority: Annotated[Path, typer.Option(help="Folder with ca.crt and ca.key")] = Path("."),
    passphrase_file: PassphraseOption = None,
) -> None:
    """Sign the coordinator's request on the machine with ca.key; verify the printed lines."""
    from mama.system.files import write_json
    from server.federation.authority import read_request, sign
    from server.federation.certificates import Authority
    from server.federation.passphrase import passphrase_from

    wanted = read_request(request)
    for line in wanted.lines():
        typer.echo(line)
    passphrase = passphrase_from(passphrase_file)
    signed = sign(wanted, Authority.read(authority / "ca.crt", authority / "ca.key", passphrase))
    out = request.with_name("signed.json")
    write_json(out, signed.model_dump(mode="json"))
    typer.echo(f"signed: copy {out} to the coordinator and run `mama-server accept` on it")


@app.command()
def accept(
    signed: Annotated[Path, typer.Argument(help="File written by `mama-server sign`")],
    federation: FederationOption = HERE,
) -> None:
    """Apply a roster signed elsewhere; a running service reloads it automatically."""
    from mama.system.locks import locked
    from server.federation.authority import read_signed, take
    from server.federation.home import Home

    home, given = Home(federation), read_signed(signed)
    with locked(home.state / "roster.lock"):
        typer.echo(str(take(home, given, where=str(signed))))
    _report_pending(home)


@app.command()
def roster(federation: FederationOption = HERE) -> None:
    """List the enrolled sites with their public shares."""
    from server.federation.home import Home
    from server.federation.roster import read_roster

    home = Home(federation)
    typer.echo(str(read_roster(home)))
    _report_pending(home)


@app.command()
def bundle() -> None:
    """Print the hash of this version's run bundle, for a site's policy.bundles."""
    from server.service.control import bundle

    typer.echo(bundle().hash_str)


@base.command()
def add(
    folder: Annotated[Path, typer.Argument(help="Folder with the model's safetensors")],
    name: Annotated[
        str | None, typer.Option(help="Its name in experiments; default: the folder's name")
    ] = None,
    licence: Annotated[
        str | None, typer.Option(help="Its licence; default: first line of the licence file")
    ] = None,
    federation: FederationOption = HERE,
) -> None:
    """Register local base weights in the federation file; downloads and executes nothing."""
    from server.federation.base_models import add_base
    from server.federation.home import Home

    for line in add_base(Home(federation), folder, name, licence):
        typer.echo(line)


def _home(federation: Path, passphrase_file: Path | None, *, new: bool = False) -> "Home":
    from server.federation.home import Home
    from server.federation.passphrase import passphrase_from

    return Home(federation, passphrase_from(passphrase_file, new=new))


def _report_pending(home: "Home") -> bool:
    """Print the request that is pending a signature; return whether there is one."""
    from server.federation.authority import pending_request

    pending = pending_request(home)
    if pending:
        typer.echo(f"signature pending: roster version {pending.roster.version}")
        typer.echo(f"copy {home.unsigned} to the machine with ca.key and run `mama-server sign`")
    return pending is not None
