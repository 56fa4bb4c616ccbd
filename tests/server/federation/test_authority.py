"""Authority's key under a passphrase, on another machine: only its signatures count here."""

import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mama.exchange.roster import Roster
from mama.exchange.signing import fingerprint, read_public_line, write_key_pair
from server.cli import main
from server.federation.certificates import make_authority, read_certificate, read_private_key
from server.federation.home import Home
from server.federation.provision import is_exposed, provision
from server.federation.roster import read_roster, revoke
from server.service.daemon import programs

PASSPHRASE = "a horse and a battery"


class Coordinator:
    """A coordinator's folder and its commands; `away` is the machine that has ca.key."""

    def __init__(self, folder: Path, command: Callable[..., Any]):
        self.folder, self.away, self._command = folder, folder / "away", command
        self.path = folder / "federation.yaml"
        self.path.write_text("name: demo\naddress: fl.example.org:8443\n")

    @property
    def home(self) -> Home:
        return Home(self.path)

    def run(self, *words: object) -> Any:
        return self._command(main, *words, "--federation", self.path)

    def enrol(self, site: str, *more: object) -> Any:
        key = self.folder / f"{site}.key"
        if not key.exists():
            write_key_pair(key, key.with_suffix(".pub"))
        return self.run("enrol", site, key.with_suffix(".pub"), *more)

    def move_key(self) -> None:
        self.away.mkdir()
        shutil.copy(self.home.ca_certificate, self.away)
        shutil.move(self.home.ca_key, self.away)

    def sign(self, *more: object) -> Any:
        if self.home.unsigned.exists():
            shutil.copy(self.home.unsigned, self.away)
        words = ("sign", self.away / "unsigned.json", "--authority", self.away)
        return self._command(main, *words, *more)

    def accept(self) -> Any:
        return self.run("accept", self.away / "signed.json")


@pytest.fixture
def coordinator(tmp_path: Path, command: Callable[..., Any]) -> Coordinator:
    return Coordinator(tmp_path, command)


@pytest.fixture
def offline(coordinator: Coordinator) -> Coordinator:
    """Provisioned, with alder enrolled, and the key gone."""
    provision(coordinator.home)
    assert coordinator.enrol("alder").code == 0
    coordinator.move_key()
    return coordinator


def refused(ended: Any, *words: str) -> None:
    assert ended.code != 0
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.startswith("error: ")
    for word in words:
        assert word in ended.err


def names(home: Home) -> list[str]:
    return [member.site for member in read_roster(home).active]


def test_a_key_under_a_passphrase(coordinator: Coordinator, command: Callable[..., Any]) -> None:
    word, wrong = coordinator.folder / "word", coordinator.folder / "wrong"
    word.write_text(PASSPHRASE + "\n")
    wrong.write_text("another horse\n")
    ended = command(main, "provision", coordinator.path, "--passphrase-file", word)
    assert (ended.code, ended.err) == (0, "")
    home = coordinator.home
    data = home.ca_key.read_bytes()
    assert home.ca_key.stat().st_mode & 0o777 == 0o600
    assert load_pem_private_key(data, PASSPHRASE.encode())
    assert not is_exposed(home)

    for command_ in (("renew",), ("revoke", "alder")):
        if command_[0] == "revoke":
            assert coordinator.enrol("alder", "--passphrase-file", word).code == 0
        before = {path: path.read_bytes() for path in home.state.rglob("*") if path.is_file()}
        refused(coordinator.run(*command_, "--passphrase-file", wrong), "has another passphrase")
        refused(coordinator.run(*command_), "no terminal to prompt on", "Use --passphrase-file")
        for missing in ("nowhere", "federation.yaml"):
            place = coordinator.folder / missing
            refused(
                coordinator.run(*command_, "--passphrase-file", place), "contains no passphrase"
            )
        left = {path: path.read_bytes() for path in before}
        assert left == before
        assert coordinator.run(*command_, "--passphrase-file", word).code == 0
    assert names(home) == []
    # What needs no signature needs no passphrase.
    assert coordinator.run("roster").code == 0
    assert programs(home)


def test_a_key_that_exists_is_not_passed_off_as_encrypted(
    coordinator: Coordinator, command: Callable[..., Any]
) -> None:
    provision(coordinator.home)
    word = coordinator.folder / "word"
    word.write_text(PASSPHRASE)
    key = coordinator.home.ca_key.read_bytes()
    ended = command(main, "provision", coordinator.path, "--passphrase-file", word)
    refused(ended, "exists already, unencrypted")
    assert coordinator.home.ca_key.read_bytes() == key


@pytest.mark.parametrize("given", ["", "\n", "short\n"])
def test_a_passphrase_that_is_none_makes_nothing(
    coordinator: Coordinator, command: Callable[..., Any], given: str
) -> None:
    word = coordinator.folder / "word"
    word.write_text(given)
    refused(command(main, "provision", coordinator.path, "--passphrase-file", word), "passphrase")
    refused(command(main, "provision", coordinator.path, "--encrypt"), "no terminal to prompt on")
    assert not coordinator.home.ca_key.exists()


def test_the_key_lies_elsewhere(offline: Coordinator) -> None:
    home = offline.home
    before = home.roster.read_bytes()
    said = offline.enrol("birch").out
    assert "signature pending: roster version 2" in said
    assert "mama-server sign" in said
    offline.enrol("cedar")
    old_key = home.key.read_bytes()
    assert "signature pending" in offline.run("renew").out
    # Until the signature comes nothing changes.
    assert (home.roster.read_bytes(), home.key.read_bytes()) == (before, old_key)
    assert names(home) == ["alder"]
    assert "signature pending: roster version 3" in offline.run("roster").out

    said = offline.sign().out
    for site in ("alder", "birch", "cedar"):
        key = read_public_line((offline.folder / f"{site}.pub").read_text())
        assert f"{site}: active, share 1, key {fingerprint(key)}\n" in said
    assert "server certificate for fl.example.org" in said
    ended = offline.accept()
    assert (ended.code, ended.err) == (0, "")
    assert names(home) == ["alder", "birch", "cedar"]
    assert not home.unsigned.exists()
    assert not home.next_key.exists()
    assert home.key.read_bytes() != old_key
    public = read_private_key(home.key).public_key()
    assert read_certificate(home.certificate).public_key() == public
    for site in names(home):
        issued = read_certificate(home.state / "sites" / f"{site}.crt")
        issued.verify_directly_issued_by(read_certificate(home.ca_certificate))
    # Once more changes nothing.
    assert offline.accept().code == 0
    assert offline.run("revoke", "cedar").code == 0
    offline.sign()
    offline.accept()
    assert names(home) == ["alder", "birch"]


def test_what_was_changed_while_the_signature_was_on_its_way_still_waits(
    offline: Coordinator,
) -> None:
    offline.enrol("birch")
    offline.sign()
    offline.enrol("cedar")
    said = offline.accept().out
    assert "signature pending: roster version 3" in said
    assert names(offline.home) == ["alder", "birch"]
    offline.sign()
    offline.accept()
    assert names(offline.home) == ["alder", "birch", "cedar"]


def test_a_key_that_comes_back_signs_all_that_waits(offline: Coordinator) -> None:
    offline.enrol("birch")
    shutil.move(offline.away / "ca.key", offline.home.ca_key)
    assert "waits" not in offline.enrol("cedar").out
    assert names(offline.home) == ["alder", "birch", "cedar"]
    assert not offline.home.unsigned.exists()


def test_an_older_roster_and_another_of_the_same_version_are_refused(
    offline: Coordinator,
) -> None:
    offline.enrol("birch")
    offline.sign()
    older = (offline.away / "signed.json").read_bytes()
    offline.accept()
    offline.run("revoke", "alder")
    offline.sign()
    offline.accept()
    before = offline.home.roster.read_bytes()
    (offline.away / "signed.json").write_bytes(older)
    refused(offline.accept(), "version 2 is older than version 3")
    other = read_roster(offline.home).model_copy(update={"members": ()})
    (offline.away / "signed.json").write_text(
        other.signed(read_private_key(offline.away / "ca.key"))
    )
    refused(offline.accept(), "differs from the roster in use, which has the same version, 3")
    assert offline.home.roster.read_bytes() == before


def test_what_another_authority_signed_is_refused(offline: Coordinator) -> None:
    offline.enrol("birch")
    before = offline.home.roster.read_bytes()
    make_authority("impostor", offline.away / "ca.crt", offline.away / "ca.key")
    offline.sign()
    refused(offline.accept(), "signature of the roster-1 is not valid", "ca.crt")
    # A true roster with a certificate of the impostor's beside it.
    made = json.loads((offline.away / "signed.json").read_text())
    made |= json.loads(before)
    (offline.away / "signed.json").write_text(json.dumps(made))
    refused(offline.accept(), "certificate of another authority")
    assert offline.home.roster.read_bytes() == before
    assert not (offline.home.state / "sites" / "birch.crt").exists()


def test_another_federations_roster_is_refused(offline: Coordinator) -> None:
    foreign = Roster(federation="elsewhere", version=9)
    signed = foreign.signed(read_private_key(offline.away / "ca.key"))
    (offline.away / "signed.json").write_text(signed)
    refused(offline.accept(), "belongs to the federation elsewhere")


def test_a_certificate_for_a_key_that_is_not_here_is_refused(offline: Coordinator) -> None:
    offline.run("renew")
    offline.sign()
    offline.run("renew")
    before = offline.home.certificate.read_bytes()
    refused(offline.accept(), "server certificate for another key", "mama-server renew")
    assert offline.home.certificate.read_bytes() == before


def test_without_the_key_nothing_is_signed(offline: Coordinator) -> None:
    offline.enrol("birch")
    (offline.away / "ca.key").rename(offline.folder / "kept.key")
    refused(offline.sign(), "ca.key", "contains no EC private key")
    make_authority("other", offline.folder / "other.crt", offline.away / "ca.key")
    refused(offline.sign(), "is not the key of")
    (offline.away / "ca.crt").unlink()
    refused(offline.sign(), "contains no certificate")
    assert not (offline.away / "signed.json").exists()


@pytest.mark.parametrize("text", ["", "[1, 2]", "{}", '{"roster": 5}', "\xff"])
def test_damaged_files_give_one_line(offline: Coordinator, text: str) -> None:
    offline.enrol("birch")
    offline.sign()
    for path, do in (
        (offline.away / "signed.json", offline.accept),
        (offline.home.unsigned, offline.sign),
        (offline.home.unsigned, lambda: offline.enrol("cedar")),
    ):
        path.write_bytes(text.encode("latin-1"))
        refused(do(), path.name)


def test_a_request_with_a_key_that_is_none_is_refused(offline: Coordinator) -> None:
    offline.enrol("birch")
    request = json.loads(offline.home.unsigned.read_text())
    request["roster"]["members"][1]["public_key"] = "ssh-rsa AAAA"
    offline.home.unsigned.write_text(json.dumps(request))
    refused(offline.sign(), "is not an unsigned roster")


def test_a_lost_authority_is_not_made_anew(
    offline: Coordinator, command: Callable[..., Any]
) -> None:
    home = offline.home
    home.certificate.unlink()
    refused(
        command(main, "provision", offline.path),
        "ca.key",
        "needed to create the server certificate",
    )
    shutil.move(offline.away / "ca.key", home.ca_key)
    key = home.ca_key.read_bytes()
    certificate = home.ca_certificate.read_bytes()
    home.ca_certificate.unlink()
    refused(command(main, "provision", offline.path), "is missing, but ca.key exists")
    assert home.ca_key.read_bytes() == key
    home.ca_certificate.write_bytes(certificate)
    assert "created: server certificate\n" in command(main, "provision", offline.path).out


def test_a_lost_roster_comes_back_from_a_site(offline: Coordinator) -> None:
    """A site keeps the signed roster of its last task; only the newest is worth anything."""
    kept = offline.home.roster.read_bytes()
    offline.home.roster.unlink()
    (offline.away / "signed.json").write_bytes(kept)
    assert offline.accept().code == 0
    assert names(offline.home) == ["alder"]


def test_a_service_that_could_read_the_key_says_so(
    offline: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.service.daemon.serve", lambda home: None)
    assert "WARN" not in offline.run("start").out
    shutil.move(offline.away / "ca.key", offline.home.ca_key)
    (line,) = [x for x in offline.run("start").out.splitlines() if x.startswith("WARN")]
    assert f"{offline.home.ca_key} is unencrypted" in line
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert "WARN" not in offline.run("start").out


def test_revoking_without_the_key_waits_too(offline: Coordinator) -> None:
    revoke(offline.home, "alder")
    assert names(offline.home) == ["alder"]
    assert yaml.safe_load(offline.home.unsigned.read_text())["roster"]["version"] == 2


def test_openssl_puts_a_key_under_a_passphrase_as_the_page_says(
    coordinator: Coordinator, monkeypatch: pytest.MonkeyPatch
) -> None:
    provision(coordinator.home)
    page = (Path(__file__).parents[3] / "docs" / "coordinator.md").read_text()
    (command,) = re.findall(r"```bash\n(openssl .*)\n```", page)
    word = coordinator.folder / "word"
    word.write_text(PASSPHRASE)
    subprocess.run(
        [*shlex.split(command), "-passout", f"file:{word}"], cwd=coordinator.folder, check=True
    )
    (coordinator.folder / "ca.key.encrypted").rename(coordinator.home.ca_key)
    assert not is_exposed(coordinator.home)
    refused(coordinator.enrol("alder"), "no terminal to prompt on")
    assert coordinator.enrol("alder", "--passphrase-file", word).code == 0
