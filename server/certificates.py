"""The federation's own certificate authority and the server's certificate (X.509, RFC 5280)."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from mama.errors import ConfigError
from mama.files import write_bytes
from mama.signing import PrivateKey, PublicKey, new_key

CA_YEARS = 10
WARNING_DAYS = 30
# A site's clock may be a little behind.
SKEW = timedelta(hours=1)


def make_authority(name: str, certificate: Path, key: Path) -> None:
    """Write a certificate authority: its certificate, and its key with mode 0600."""
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
    _write(made, certificate, private, key)


def make_server_certificate(
    names: list[str],
    days: float,
    authority: Path,
    authority_key: Path,
    certificate: Path,
    key: Path,
) -> None:
    """Write a server's certificate for these host names and IP addresses, and its key with mode 0600."""
    issuer, signer = read_certificate(authority), read_private_key(authority_key)
    private, now = new_key(), datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])]))
        .issuer_name(issuer.subject)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(min(now + timedelta(days=days), issuer.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general(n) for n in names]), critical=False)
        .add_extension(
            x509.SubjectKeyIdentifier.from_public_key(private.public_key()), critical=False
        )
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, SHA384())
    )
    _write(made, certificate, private, key)


def make_site_certificate(
    site: str, public: PublicKey, authority: Path, authority_key: Path, certificate: Path
) -> None:
    """Write a certificate with which a site proves itself to a door that asks for it. It is good as long as its
    authority: who takes part is the roster's to say."""
    issuer, signer = read_certificate(authority), read_private_key(authority_key)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)]))
        .issuer_name(issuer.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.now(UTC) - SKEW)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(sign_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
        )
        .sign(signer, SHA384())
    )
    write_bytes(certificate, made.public_bytes(serialization.Encoding.PEM), private=False)


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


def read_private_key(path: Path) -> PrivateKey:
    """The private key in a PEM file.

    Raises:
        ConfigError: there is none, or not of our kind.
    """
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError):
        key = None
    if not isinstance(key, PrivateKey):
        raise ConfigError(
            "holds no EC private key", where=str(path), fix="Run `mama-server provision`"
        )
    return key


def _write(certificate: x509.Certificate, path: Path, key: PrivateKey, key_path: Path) -> None:
    write_bytes(
        key_path,
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
        private=True,
    )
    write_bytes(path, certificate.public_bytes(serialization.Encoding.PEM), private=False)


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
