"""The federation's own certificate authority and the server's certificate (X.509, RFC 5280)."""

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
from mama.files import write_bytes
from mama.signing import PrivateKey, PublicKey, new_key
from server.passphrase import Passphrase, passphrase_from

CA_YEARS = 10
WARNING_DAYS = 30
# A site's clock may be a little behind.
SKEW = timedelta(hours=1)


def make_authority(
    name: str, certificate: Path, key: Path, passphrase: bytes | None = None
) -> None:
    """Write an authority's certificate, and its key with mode 0600, encrypted if there is a passphrase."""
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
    """The federation's certificate authority, able to sign."""

    certificate: x509.Certificate
    key: PrivateKey

    @classmethod
    def read(cls, certificate: Path, key: Path, passphrase: Passphrase) -> Self:
        """The authority in two PEM files.

        Raises:
            ConfigError: one of them is missing or damaged, the passphrase is wrong, or they do not belong together.
        """
        authority = cls(read_certificate(certificate), read_private_key(key, passphrase))
        if authority.certificate.public_key() != authority.key.public_key():
            raise ConfigError(f"is not the key of {certificate}", where=str(key))
        return authority

    def server_certificate(self, names: list[str], days: float, public: PublicKey) -> bytes:
        """A server's certificate (PEM) for these host names and IP addresses."""
        end = datetime.now(UTC) + timedelta(days=days)
        end = min(end, self.certificate.not_valid_after_utc)
        made = self._certificate(names[0][:64], public, end, ExtendedKeyUsageOID.SERVER_AUTH)
        general = [_general(name) for name in names]
        made = made.add_extension(x509.SubjectAlternativeName(general), critical=False)
        return made.sign(self.key, SHA384()).public_bytes(serialization.Encoding.PEM)

    def site_certificate(self, site: str, public: PublicKey) -> bytes:
        """A certificate (PEM) with which a site proves itself to a door that asks for it. It is good as long as its
        authority: who takes part is the roster's to say."""
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
    """Days until a certificate expires; negative when it has."""
    left = read_certificate(certificate).not_valid_after_utc - datetime.now(UTC)
    return left / timedelta(days=1)


def read_certificate(path: Path) -> x509.Certificate:
    """The certificate in a PEM file.

    Raises:
        ConfigError: there is none.
    """
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(
            "holds no certificate", where=str(path), fix="Run `mama-server provision`"
        ) from None


def read_private_key(path: Path, passphrase: Passphrase | None = None) -> PrivateKey:
    """The private key in a PEM file.

    Args:
        passphrase: called where the key is encrypted; by default the terminal is asked.

    Raises:
        ConfigError: there is none, it is not of our kind, or the passphrase is another.
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
            "holds no EC private key", where=str(path), fix="Restore it from your backup"
        )
    return key


def is_encrypted(path: Path) -> bool:
    """True of a private key in a PEM file that needs a passphrase; False where no file can be read."""
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
