"""Signing of roster and certificates by the federation's authority.

A change is a request. With `ca.key` on this machine it is signed and applied at once. Otherwise it
is written to `unsigned.json`; `mama-server sign` signs it on the machine with the key, and
`mama-server accept` applies the signed file here.
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
from mama.exchange.signing import PublicKey, fingerprint, new_key, public_line, read_public_line
from mama.system.files import write_bytes, write_json, write_text
from server.federation.certificates import (
    Authority,
    read_certificate,
    read_private_key,
    write_private_key,
)
from server.federation.home import Home, Host


class ServerRequest(Section):
    """Request for a certificate of the server's new key; `public_key` is one line."""

    names: list[Host] = Field(min_length=1)
    valid_days: int = Field(ge=1, le=825)
    public_key: str


class Request(Section):
    """Roster to sign, optionally with a server certificate; each active site gets its own."""

    roster: Roster
    server: ServerRequest | None = None

    def lines(self) -> list[str]:
        """Return the lines to verify before signing: sites' key fingerprints, server's names."""
        lines = [f"{self.roster.federation}, roster version {self.roster.version}"]
        for member in self.roster.members:
            key = fingerprint(read_public_line(member.public_key))
            lines.append(f"{member.site}: {member.status}, share {member.share:g}, key {key}")
        if self.server:
            names = ", ".join(self.server.names)
            lines.append(f"server certificate for {names}, {self.server.valid_days} days")
        return lines


class Signed(Section):
    """Signed roster, as written by `Roster.signed`, and certificates (PEM)."""

    roster: str
    signature: str
    server_certificate: str = ""
    site_certificates: dict[SiteName, str] = {}


def put_forward(home: Home, roster: Roster, server: ServerRequest | None = None) -> None:
    """Sign a roster or write a signing request, with any new or pending server certificate."""
    pending = pending_request(home)
    request = Request(roster=roster, server=server or (pending and pending.server))
    if home.ca_key.exists():
        authority = Authority.read(home.ca_certificate, home.ca_key, home.passphrase)
        take(home, sign(request, authority), where="roster")
    else:
        write_json(home.unsigned, request.model_dump(mode="json"))


def pending_request(home: Home) -> Request | None:
    """Return the request that is pending a signature, if any.

    Raises:
        ConfigError: the file is damaged.
    """
    return read_request(home.unsigned) if home.unsigned.exists() else None


def read_request(path: Path) -> Request:
    """Read a request from its file.

    Raises:
        ConfigError: the file is missing, or is not a request.
    """
    try:
        request = Request.model_validate_json(path.read_bytes())
        request.lines()  # raises on invalid keys
    except (OSError, ValueError):
        raise ConfigError(
            "is not an unsigned roster",
            where=str(path),
            fix="Remove it and repeat `mama-server enrol`, `revoke` or `renew`, which write it",
        ) from None
    return request


def new_server_key(home: Home) -> ServerRequest:
    """Generate the server's next key and return the request for its certificate."""
    key = new_key()
    write_private_key(home.next_key, key)
    return ServerRequest(
        names=home.file.certificate_names,
        valid_days=home.file.valid_days,
        public_key=public_line(key.public_key()),
    )


def sign(request: Request, authority: Authority) -> Signed:
    """Sign the roster and certificates of a request.

    Raises:
        ConfigError: the roster does not fit into a message.
    """
    text = request.roster.signed(authority.key)
    if len(text) > MAX_ROSTER:
        raise ConfigError(
            f"has more keys than fit in a message ({len(request.roster.members)})", where="roster"
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
    """Read a file written by `mama-server sign`, or a roster alone as stored by a site.

    Raises:
        ConfigError: it is neither.
    """
    try:
        return Signed.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        raise ConfigError(
            "is not a signed roster",
            where=str(path),
            fix="Use the file written by `mama-server sign`",
        ) from None


def take(home: Home, signed: Signed, where: str) -> Roster:
    """Apply signed files and return the roster; nothing is written unless all are valid.

    Raises:
        ConfigError: it was signed by another authority, belongs to another federation, is older
            than the roster in use, or its certificate is for another key.
    """
    authority, pending = read_certificate(home.ca_certificate), pending_request(home)
    roster = _checked_roster(home, signed, authority, where)
    certificates = [signed.server_certificate, *signed.site_certificates.values()]
    for text in filter(None, certificates):
        _require_issued(text, authority, where)
    if signed.server_certificate:
        _put_server_certificate(home, signed.server_certificate, where)
    for site, text in signed.site_certificates.items():
        write_bytes(site_certificate(home, site), text.encode(), private=False)
    write_text(home.roster, _envelope(signed) + "\n")
    if pending and pending.roster.version <= roster.version:
        if pending.server and not signed.server_certificate:
            write_json(
                home.unsigned,
                Request(roster=roster, server=pending.server).model_dump(mode="json"),
            )
        else:
            home.unsigned.unlink()
    return roster


def site_certificate(home: Home, site: str) -> Path:
    """Return the path of a site's client certificate for mutual TLS."""
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
            fix=f"Sign the current roster with the ca.key that belongs to {home.ca_certificate}",
        ) from None
    if roster.federation != home.file.name:
        raise ConfigError(f"belongs to the federation {roster.federation}", where=where)
    if in_use and in_use.version == roster.version and in_use != roster:
        raise ConfigError(
            f"differs from the roster in use, which has the same version, {roster.version}",
            where=where,
            fix="Repeat the change here and sign it again",
        )
    return roster


def _require_issued(text: str, authority: x509.Certificate, where: str) -> None:
    try:
        x509.load_pem_x509_certificate(text.encode()).verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        raise ConfigError(
            "contains a certificate of another authority, or a damaged one", where=where
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
        fix="Run `mama-server renew` and sign the request it writes",
    )


def _envelope(signed: Signed) -> str:
    return json.dumps({"roster": signed.roster, "signature": signed.signature})
