"""How a site trusts the coordinator, and proves itself to a door that asks for it (mutual TLS)."""

import ssl
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from client.enrolment import pinned_certificate
from client.sitefile import CoordinatorConfig
from mama.errors import ConfigError


def context_for(coordinator: CoordinatorConfig) -> ssl.SSLContext:
    """A TLS context that trusts the pinned authority alone, with this site's certificate if it has one.

    Raises:
        ConfigError: a certificate or key cannot be read, is not the pinned one, or they do not belong together.
    """
    context = ssl.create_default_context(cadata=pinned_certificate(coordinator))
    if coordinator.client_certificate is not None:
        _load(context, coordinator.client_certificate, coordinator.key)
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load the site's certificate with its key, which OpenSSL reads from a file of its own format only."""
    try:
        private = serialization.load_ssh_private_key(key.read_bytes(), password=None)
        # mkstemp's files are the owner's alone, and this one is gone at once.
        with tempfile.NamedTemporaryFile() as file:
            file.write(
                private.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                )
            )
            file.flush()
            context.load_cert_chain(certificate, file.name)
    except (OSError, ValueError, ssl.SSLError):
        raise ConfigError(
            "is no certificate of this site's key",
            where=str(certificate),
            fix="The coordinator makes it anew by `mama-server enrol`",
        ) from None
