"""Provisioning is done once; sites come and go without re-minting anything."""

import ssl
import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mama.errors import ConfigError, ProtocolError
from mama.exchange.signing import write_key_pair
from server.federation.certificates import days_left, make_authority, read_certificate
from server.federation.home import Home
from server.federation.provision import pin, provision, renew
from server.federation.roster import enrol, read_roster, revoke
from tests.certificates import make_server_certificate


def federation(folder: Path, text: str = "") -> Home:
    path = folder / "federation.yaml"
    path.write_text(f"name: demo\naddress: fl.example.org:8443\n{text}")
    return Home(path)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = federation(tmp_path)
    provision(made)
    return made


def key_of(home: Home, name: str) -> Path:
    folder = home.path.parent
    write_key_pair(folder / f"{name}.key", folder / f"{name}.pub")
    return folder / f"{name}.pub"


def contents(home: Home) -> dict[str, bytes]:
    names = ("ca.crt", "ca.key", "server.crt", "server.key", "executor.secret")
    return {name: (home.state / name).read_bytes() for name in names}


def handshake(server: ssl.SSLContext, authority: Path, name: str) -> None:
    """A TLS handshake in memory, as a site makes it."""
    client = ssl.create_default_context(cafile=str(authority))
    client.verify_flags |= ssl.VERIFY_X509_STRICT
    pipes = ssl.MemoryBIO(), ssl.MemoryBIO()
    near = client.wrap_bio(pipes[0], pipes[1], server_hostname=name)
    far = server.wrap_bio(pipes[1], pipes[0], server_side=True)
    for _ in range(4):
        for end in (near, far):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue


def test_a_repetition_changes_nothing(home: Home) -> None:
    before = contents(home)
    assert provision(home) == []
    enrol(home, "alder", key_of(home, "alder"))
    revoke(home, "alder")
    assert contents(home) == before


def test_secrets_are_the_owners_alone(home: Home) -> None:
    assert stat.S_IMODE(home.state.stat().st_mode) == 0o700
    for path in (home.ca_key, home.key, home.secret):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_certificate_is_for_every_name_of_the_machine(tmp_path: Path) -> None:
    home = federation(
        tmp_path,
        "listen: 0.0.0.0:8443\nbehind_a_firewall: true\nnames: [10.0.0.7, alias.example.org]\n",
    )
    provision(home)
    found = read_certificate(home.certificate)
    names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names.get_values_for_type(x509.DNSName)) == {
        "fl.example.org",
        "alias.example.org",
        "localhost",
    }
    addresses = {str(a) for a in names.get_values_for_type(x509.IPAddress)}
    assert addresses == {"10.0.0.7", "127.0.0.1"}
    assert home.file.loopback == "127.0.0.1:8443"
    assert days_left(home.certificate) == pytest.approx(365, abs=0.1)


def test_a_site_accepts_the_certificate_by_the_strict_rules_and_no_other(home: Home) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(home.certificate, home.key)
    handshake(server, home.ca_certificate, "fl.example.org")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(server, home.ca_certificate, "elsewhere.org")
    other = home.path.parent / "other.crt"
    make_authority("demo", other, home.path.parent / "other.key")
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(server, other, "fl.example.org")


def test_an_expired_certificate_is_refused(home: Home) -> None:
    make_server_certificate(
        ["fl.example.org"], -0.01, home.ca_certificate, home.ca_key, home.certificate, home.key
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(home.certificate, home.key)
    assert days_left(home.certificate) < 0
    with pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        handshake(server, home.ca_certificate, "fl.example.org")


def test_renewal_keeps_the_authority_and_the_pin(home: Home) -> None:
    before, pinned = contents(home), pin(home)
    renew(home)
    after = contents(home)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"server.crt", "server.key"}
    assert pin(home) == pinned
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(home.certificate, home.key)
    handshake(server, home.ca_certificate, "fl.example.org")


def test_a_certificate_never_outlives_its_authority(tmp_path: Path) -> None:
    make_authority("demo", tmp_path / "ca.crt", tmp_path / "ca.key")
    make_server_certificate(
        ["a"],
        20 * 365,
        tmp_path / "ca.crt",
        tmp_path / "ca.key",
        tmp_path / "s.crt",
        tmp_path / "s.key",
    )
    ends = [read_certificate(tmp_path / f"{n}.crt").not_valid_after_utc for n in ("ca", "s")]
    assert ends[0] == ends[1] > datetime.now(UTC) + timedelta(days=3000)


def test_sites_are_added_and_revoked_one_at_a_time(home: Home) -> None:
    alder, birch = key_of(home, "alder"), key_of(home, "birch")
    assert enrol(home, "alder", alder).version == 1
    assert enrol(home, "birch", birch, share=2.5).version == 2
    assert enrol(home, "alder", alder).version == 2  # the same again
    roster = read_roster(home)
    assert [(m.site, m.share, m.status) for m in roster.members] == [
        ("alder", 1.0, "active"),
        ("birch", 2.5, "active"),
    ]
    assert revoke(home, "alder").version == 3
    assert [m.site for m in read_roster(home).active] == ["birch"]
    # The name comes back with a new key, the key never.
    with pytest.raises(ConfigError, match="alder: this key was revoked"):
        enrol(home, "alder", alder)
    assert enrol(home, "alder", key_of(home, "alder2")).version == 4
    assert [m.site for m in read_roster(home).active] == ["birch", "alder"]


@pytest.mark.parametrize(
    ("site", "key", "message"),
    [
        ("birch", "alder.pub", "birch: this key is alder's"),
        ("alder", "other.pub", "alder: is enrolled with another key"),
        ("no such name!", "other.pub", "key 'site'"),
        ("cedar", "nowhere.pub", "cannot be read"),
        ("cedar", "other.key", "is not a public key"),
    ],
)
def test_mistakes_at_enrolment_are_named(home: Home, site: str, key: str, message: str) -> None:
    enrol(home, "alder", key_of(home, "alder"))
    key_of(home, "other")
    before = home.roster.read_bytes()
    with pytest.raises(ConfigError, match=message):
        enrol(home, site, home.path.parent / key)
    assert home.roster.read_bytes() == before


def test_only_what_is_enrolled_is_revoked(home: Home) -> None:
    enrol(home, "alder", key_of(home, "alder"))
    with pytest.raises(ConfigError, match=r"birch: is not enrolled. Enrolled sites: alder"):
        revoke(home, "birch")


def test_a_roster_changed_by_hand_is_noticed(home: Home) -> None:
    enrol(home, "alder", key_of(home, "alder"))
    home.roster.write_text(home.roster.read_text().replace("alder", "eldar"))
    with pytest.raises(ProtocolError, match="signature"):
        read_roster(home)


def test_before_provisioning_nothing_is_enrolled(tmp_path: Path) -> None:
    home = federation(tmp_path)
    with pytest.raises(ConfigError, match=r"is not provisioned. Run `mama-server provision`"):
        read_roster(home)


@pytest.mark.parametrize("address", ["example.org", "example.org:0", ":80", "a:b", "a:70000"])
def test_an_address_is_host_and_port(tmp_path: Path, address: str) -> None:
    path = tmp_path / "federation.yaml"
    path.write_text(f"name: demo\naddress: {address!r}\n")
    with pytest.raises(ConfigError, match="key 'address': must be host:port"):
        Home(path)


def test_a_roster_that_no_message_takes_is_refused(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    enrol(home, "alder", key_of(home, "alder"))
    before = home.roster.read_bytes()
    monkeypatch.setattr("server.federation.authority.MAX_ROSTER", len(before) + 100)
    with pytest.raises(ConfigError, match=r"more keys than fit in a message \(2\)"):
        enrol(home, "birch", key_of(home, "birch"))
    assert home.roster.read_bytes() == before
