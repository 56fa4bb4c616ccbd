"""The signature of the federation's authority under roster and certificates.

What changes is written as a request, `unsigned.json`. Where `ca.key` lies beside it, it is signed and taken at once;
else `mama-server sign` signs it on the machine that has the key, and `mama-server accept` takes the signed file here.
"""

import json
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from pydantic import Field, ValidationError

from mama.config import Section
from mama.errors import ConfigError, ProtocolError
from mama.exchange.protocol import MAX_ROSTER, SiteName
from mama.exchange.roster import Roster
from mama.files import write_bytes, write_json, write_text
from mama.signing import PublicKey, fingerprint, new_key, public_line, read_public_line
from server.certificates import (
    Authority,
    read_certificate,
    read_private_key,
    write_private_key,
)
from server.federation import Home, Host


class ServerRequest(Section):
    """A certificate for the server's new key, `public_key` as one line."""

    names: list[Host] = Field(min_length=1)
    valid_days: int = Field(ge=1, le=825)
    public_key: str


class Request(Section):
    """A roster to be signed, and what else is wanted with it. Each active site gets a certificate of its own."""

    roster: Roster
    server: ServerRequest | None = None

    def lines(self) -> list[str]:
        """The lines that a person compares before signing: each site's key by fingerprint, and the server's names."""
        lines = [f"{self.roster.federation}, roster version {self.roster.version}"]
        for member in self.roster.members:
            key = fingerprint(read_public_line(member.public_key))
            lines.append(f"{member.site}: {member.status}, share {member.share:g}, key {key}")
        if self.server:
            names = ", ".join(self.server.names)
            lines.append(f"server certificate for {names}, {self.server.valid_days} days")
        return lines


class Signed(Section):
    """A signed roster, as `Roster.signed` has it, and certificates (PEM)."""

    roster: str
    signature: str
    server_certificate: str = ""
    site_certificates: dict[SiteName, str] = {}


def put_forward(home: Home, roster: Roster, server: ServerRequest | None = None) -> None:
    """Have the authority sign this roster, and a server certificate if one is wanted or was already asked for."""
    waiting = waiting_request(home)
    request = Request(roster=roster, server=server or (waiting and waiting.server))
    if home.ca_key.exists():
        authority = Authority.read(home.ca_certificate, home.ca_key, home.passphrase)
        take(home, sign(request, authority), where="roster")
    else:
        write_json(home.unsigned, request.model_dump(mode="json"))


def waiting_request(home: Home) -> Request | None:
    """The request that still waits for a signature, if there is one.

    Raises:
        ConfigError: the file was damaged.
    """
    return read_request(home.unsigned) if home.unsigned.exists() else None


def read_request(path: Path) -> Request:
    """A request from its file.

    Raises:
        ConfigError: the file is missing, or is no request.
    """
    try:
        request = Request.model_validate_json(path.read_bytes())
        request.lines()  # keys that are none
    except (OSError, ValueError):
        raise ConfigError(
            "is no unsigned roster",
            where=str(path),
            fix="Remove it and repeat `mama-server enrol`, `revoke` or `renew`, which write it",
        ) from None
    return request


def new_server_key(home: Home) -> ServerRequest:
    """Make the server's next key, and what a certificate for it is asked with."""
    key = new_key()
    write_private_key(home.next_key, key)
    return ServerRequest(
        names=home.file.certificate_names,
        valid_days=home.file.valid_days,
        public_key=public_line(key.public_key()),
    )


def sign(request: Request, authority: Authority) -> Signed:
    """Sign all that a request asks for.

    Raises:
        ConfigError: the roster does not fit into a message.
    """
    text = request.roster.signed(authority.key)
    if len(text) > MAX_ROSTER:
        raise ConfigError(
            f"has more keys than a message takes ({len(request.roster.members)})", where="roster"
        )
    certificate = b""
    if server := request.server:
        public = read_public_line(server.public_key)
        certificate = authority.server_certificate(server.names, server.valid_days, public)
    return Signed(
        **json.loads(text),
        server_certificate=certificate.decode(),
        site_certificates={
            m.site: authority.site_certificate(m.site, read_public_line(m.public_key)).decode()
            for m in request.roster.active
        },
    )


def read_signed(path: Path) -> Signed:
    """A file of `mama-server sign`; also a roster alone, as a site keeps it.

    Raises:
        ConfigError: it is none.
    """
    try:
        return Signed.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise ConfigError(
            "is no signed roster", where=str(path), fix="Use the file that `mama-server sign` wrote"
        ) from None


def take(home: Home, signed: Signed, where: str) -> Roster:
    """Put what was signed into use; nothing is written unless all of it is good.

    Raises:
        ConfigError: another authority signed it, it is another federation's, it is older than what is in use, or the
            certificate is for another key.
    """
    authority, waiting = read_certificate(home.ca_certificate), waiting_request(home)
    roster = _checked_roster(home, signed, authority, where)
    certificates = [signed.server_certificate, *signed.site_certificates.values()]
    for text in filter(None, certificates):
        _require_issued(text, authority, where)
    if signed.server_certificate:
        _put_server_certificate(home, signed.server_certificate, where)
    for site, text in signed.site_certificates.items():
        write_bytes(site_certificate(home, site), text.encode(), private=False)
    write_text(home.roster, _envelope(signed) + "\n")
    if waiting and waiting.roster.version <= roster.version:
        if waiting.server and not signed.server_certificate:
            write_json(
                home.unsigned,
                Request(roster=roster, server=waiting.server).model_dump(mode="json"),
            )
        else:
            home.unsigned.unlink()
    return roster


def site_certificate(home: Home, site: str) -> Path:
    """The file of a site's certificate for a door that asks for one."""
    return home.state / "sites" / f"{site}.crt"


def _checked_roster(home: Home, signed: Signed, authority: x509.Certificate, where: str) -> Roster:
    key: PublicKey = authority.public_key()  # type: ignore[assignment]
    in_use = (
        Roster.verified(home.roster.read_text(encoding="utf-8"), key)
        if home.roster.exists()
        else None
    )
    try:
        roster = Roster.verified(_envelope(signed), key, newest=in_use.version if in_use else 0)
    except ProtocolError as error:
        raise ConfigError(
            str(error),
            where=where,
            fix=f"It must be signed by the ca.key of {home.ca_certificate}, and not be outdated",
        ) from None
    if roster.federation != home.file.name:
        raise ConfigError(f"is of the federation {roster.federation}", where=where)
    if in_use and in_use.version == roster.version and in_use != roster:
        raise ConfigError(
            f"is another roster of the version in use, {roster.version}",
            where=where,
            fix="Repeat the change here and sign it anew",
        )
    return roster


def _require_issued(text: str, authority: x509.Certificate, where: str) -> None:
    try:
        x509.load_pem_x509_certificate(text.encode()).verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise ConfigError(
            "holds a certificate of another authority, or a damaged one", where=where
        ) from None


def _put_server_certificate(home: Home, text: str, where: str) -> None:
    wanted = x509.load_pem_x509_certificate(text.encode()).public_key()
    for path in (home.next_key, home.key):
        if path.exists() and read_private_key(path).public_key() == wanted:
            write_private_key(home.key, read_private_key(path))
            write_bytes(home.certificate, text.encode(), private=False)
            home.next_key.unlink(missing_ok=True)
            return
    raise ConfigError(
        "has a server certificate for another key",
        where=where,
        fix="Run `mama-server renew` and sign what it wrote",
    )


def _envelope(signed: Signed) -> str:
    return json.dumps({"roster": signed.roster, "signature": signed.signature})
