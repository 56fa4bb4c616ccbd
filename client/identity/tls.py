"""TLS context of a site: the pinned authority and an optional client certificate."""

import ssl
import tempfile
from pathlib import Path

from cryptography.hazmat.primitives import serialization

from client.identity.enrolment import pinned_certificate
from client.site.config import CoordinatorConfig
from mama.errors import ConfigError


def context_for(coordinator: CoordinatorConfig) -> ssl.SSLContext:
    """Return a TLS context that trusts only the pinned authority, with any client certificate.

    Raises:
        ConfigError: a certificate or key cannot be read, the authority is not the pinned one, or
            certificate and key do not match.
    """
    context = ssl.create_default_context(cadata=pinned_certificate(coordinator))
    if coordinator.client_certificate is not None:
        _load(context, coordinator.client_certificate, coordinator.key)
    return context


def _load(context: ssl.SSLContext, certificate: Path, key: Path) -> None:
    """Load the site's certificate and key; OpenSSL reads the key only from a PEM file."""
    try:
        private = serialization.load_ssh_private_key(key.read_bytes(), password=None)
        # Only the owner can read the temporary file, which is removed at once.
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
            "is not a certificate of this site's key",
            where=str(certificate),
            fix="Ask the coordinator to make it again with `mama-server enrol`",
        ) from None
