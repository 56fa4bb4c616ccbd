"""A site's certificate goes with its key, and with no other."""

from pathlib import Path

import pytest

from client.identity.enrolment import authority_key
from client.identity.tls import context_for
from client.site.config import CoordinatorConfig
from mama.errors import ConfigError
from mama.exchange.signing import fingerprint, read_public_line, write_key_pair
from server.federation.certificates import Authority, make_authority


@pytest.fixture
def coordinator(tmp_path: Path) -> CoordinatorConfig:
    authority = tmp_path / "ca.crt", tmp_path / "ca.key"
    make_authority("demo", *authority)
    for name in ("node", "other"):
        write_key_pair(tmp_path / f"{name}.key", tmp_path / f"{name}.pub")
    public = read_public_line((tmp_path / "node.pub").read_text())
    signer = Authority.read(*authority, lambda: b"")
    (tmp_path / "alder.crt").write_bytes(signer.site_certificate("alder", public))
    return CoordinatorConfig(
        address="a:1",
        pin=fingerprint(authority_key(authority[0])),
        certificate=authority[0],
        key=tmp_path / "node.key",
        client_certificate=tmp_path / "alder.crt",
    )


def test_the_certificate_of_its_own_key(coordinator: CoordinatorConfig) -> None:
    context = context_for(coordinator)
    assert context.check_hostname
    assert [ca["subject"] for ca in context.get_ca_certs()] == [
        ((("commonName", "demo federation"),),)
    ]


def test_the_certificate_of_another_key(coordinator: CoordinatorConfig, tmp_path: Path) -> None:
    wrong = coordinator.model_copy(update={"key": tmp_path / "other.key"})
    with pytest.raises(ConfigError, match=r"alder.crt: is not a certificate of this site's key"):
        context_for(wrong)


def test_files_that_are_not_there(coordinator: CoordinatorConfig, tmp_path: Path) -> None:
    for name, message in [
        ("client_certificate", "is not a certificate of this site's key"),
        ("key", "is not a certificate of this site's key"),
        ("certificate", "certificate cannot be read"),
    ]:
        missing = coordinator.model_copy(update={name: tmp_path / "nothing"})
        with pytest.raises(ConfigError, match=message):
            context_for(missing)


def test_a_second_authority_in_the_file_is_not_trusted_but_refused(
    coordinator: CoordinatorConfig, tmp_path: Path
) -> None:
    make_authority("impostor", tmp_path / "impostor.crt", tmp_path / "impostor.key")
    other = (tmp_path / "impostor.crt").read_text()
    both = tmp_path / "both.crt"
    two = coordinator.model_copy(update={"certificate": both})
    both.write_text(coordinator.certificate.read_text() + other)
    with pytest.raises(ConfigError, match="does not hold the one certificate"):
        context_for(two)
    # A form that OpenSSL alone would read.
    trusted = other.replace(" CERTIFICATE", " TRUSTED CERTIFICATE")
    both.write_text(coordinator.certificate.read_text() + trusted)
    assert len(context_for(two).get_ca_certs()) == 1


def test_an_authority_that_is_not_the_pinned_one_is_not_trusted(
    coordinator: CoordinatorConfig,
) -> None:
    with pytest.raises(ConfigError, match="is not the pinned authority"):
        context_for(coordinator.model_copy(update={"pin": "0" * 64}))
