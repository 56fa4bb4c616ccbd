"""Certificate authority of the federation and the certificates it issues (X.509, RFC 5280)."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mama.errors import ConfigError
from mama.exchange.signing import PrivateKey, PublicKey, new_key
from mama.system.files import write_bytes
from server.federation.passphrase import Passphrase, passphrase_from

CA_YEARS = 10
WARNING_DAYS = 30
# Tolerance for sites whose clocks are behind.
SKEW = timedelta(hours=1)


def make_authority(
    name: str, certificate: Path, key: Path, passphrase: bytes | None = None
) -> None:
    """Write an authority's certificate and key (mode 0600, encrypted if a passphrase is given)."""
    private = new_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} federation")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + timedelta(days=365 * CA_YEARS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(sign_certificates=True), critical=True)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
        .sign(private, SHA384())
    )
    write_private_key(key, private, passphrase)
    write_bytes(certificate, made.public_bytes(serialization.Encoding.PEM), private=False)


@dataclass(frozen=True)
class Authority:
    """Certificate and private key of the federation's authority."""

    certificate: x509.Certificate
    key: PrivateKey

    @classmethod
    def read(cls, certificate: Path, key: Path, passphrase: Passphrase) -> Self:
        """Read an authority from two PEM files.

        Raises:
            ConfigError: a file is missing or damaged, the passphrase is wrong, or the key does not
                match the certificate.
        """
        authority = cls(read_certificate(certificate), read_private_key(key, passphrase))
        if authority.certificate.public_key() != authority.key.public_key():
            raise ConfigError(f"is not the key of {certificate}", where=str(key))
        return authority

    def server_certificate(self, names: list[str], days: float, public: PublicKey) -> bytes:
        """Return a server certificate (PEM) for host names and IP addresses."""
        end = datetime.now(UTC) + timedelta(days=days)
        end = min(end, self.certificate.not_valid_after_utc)
        made = self._certificate(names[0][:64], public, end, ExtendedKeyUsageOID.SERVER_AUTH)
        general = [_general(name) for name in names]
        made = made.add_extension(x509.SubjectAlternativeName(general), critical=False)
        return made.sign(self.key, SHA384()).public_bytes(serialization.Encoding.PEM)

    def site_certificate(self, site: str, public: PublicKey) -> bytes:
        """Return a site's client certificate (PEM) for mutual TLS.

        It expires with the authority: participation is decided by the roster alone.
        """
        end = self.certificate.not_valid_after_utc
        made = self._certificate(site, public, end, ExtendedKeyUsageOID.CLIENT_AUTH)
        return made.sign(self.key, SHA384()).public_bytes(serialization.Encoding.PEM)

    def _certificate(
        self, name: str, public: PublicKey, end: datetime, use: x509.ObjectIdentifier
    ) -> x509.CertificateBuilder:
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(self.certificate.subject)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(datetime.now(UTC) - SKEW)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(signer, critical=False)
        )


def days_left(certificate: Path) -> float:
    """Return the days until a certificate expires; negative once expired."""
    left = read_certificate(certificate).not_valid_after_utc - datetime.now(UTC)
    return left / timedelta(days=1)


def read_certificate(path: Path) -> x509.Certificate:
    """Read the certificate in a PEM file.

    Raises:
        ConfigError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(
            "contains no certificate", where=str(path), fix="Run `mama-server provision`"
        ) from None


def read_private_key(path: Path, passphrase: Passphrase | None = None) -> PrivateKey:
    """Read the private key in a PEM file.

    Args:
        path: the PEM file.
        passphrase: called if the key is encrypted; by default prompts on the terminal.

    Raises:
        ConfigError: there is no key, it is not an EC key, or the passphrase is wrong.
    """
    encrypted = is_encrypted(path)
    given = (passphrase or passphrase_from(None))() if encrypted else None
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), given)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, PrivateKey):
        if encrypted:
            raise ConfigError("has another passphrase, or is damaged", where=str(path))
        raise ConfigError(
            "contains no EC private key", where=str(path), fix="Restore it from your backup"
        )
    return key


def is_encrypted(path: Path) -> bool:
    """Return whether a private key (PEM) is encrypted; False if the file cannot be read."""
    try:
        return path.read_bytes().startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    except OSError:
        return False


def write_private_key(path: Path, key: PrivateKey, passphrase: bytes | None = None) -> None:
    """Write a private key as PEM (PKCS 8) with mode 0600."""
    kept = (
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption()
    )
    data = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, kept)
    write_bytes(path, data, private=True)


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
