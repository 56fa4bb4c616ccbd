"""`mama-server`: writes a run's report again, or says in one line why not."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mama.exchange.signing import write_key_pair
from server.cli import main


def test_a_report_is_written_again(
    command: Callable[..., Any], run_federation: Callable[..., Any]
) -> None:
    outcome = run_federation(
        lambda site, kind, number, header, data: (header, data), "federation.rounds=1"
    )
    page = outcome.folder.path / "report.html"
    assert not page.exists()
    ended = command(main, "report", outcome.folder.path)
    assert (ended.code, ended.out, ended.err) == (0, f"{page}\n", "")
    assert "cedar" in page.read_text()


def test_a_folder_without_a_run(command: Callable[..., Any], tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        ended = command(main, "report", folder)
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == f"error: {folder}: holds no run's outcome. Give a run's folder\n"
    assert list(tmp_path.iterdir()) == []


def test_the_coordinators_commands(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "federation.yaml"
    file.write_text("name: demo\naddress: fl.example.org:8443\nvalid_days: 40\n")
    ended = command(main, "provision", file)
    assert ended.code == 0
    assert ended.out.startswith(
        "created: certificate authority, server certificate, executor secret, roster\n"
    )
    assert "created: nothing, everything exists already" in command(main, "provision", file).out
    write_key_pair(tmp_path / "node.key", tmp_path / "node.pub")
    here = ("--federation", file)
    ended = command(main, "enrol", "alder", tmp_path / "node.pub", "--share", 2.5, *here)
    assert ended.code == 0
    enrolled = "roster version 1: alder (share 2.5)\n"
    assert enrolled in ended.out
    assert command(main, "roster", *here).out.endswith(enrolled)
    assert (tmp_path / "state" / "sites" / "alder.crt").is_file()
    assert command(main, "revoke", "alder", *here).out.endswith("roster version 2: no site\n")
    ended = command(main, "enrol", "alder", tmp_path / "node.pub", *here)
    assert (ended.code, ended.err) == (
        2,
        "error: alder: this key was revoked. The site needs a new key pair\n",
    )
    assert command(main, "renew", *here).out == "the certificate is valid for 40 days\n"


def test_mistakes_of_a_coordinator(command: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "federation.yaml"
    here = ("--federation", file)
    assert "no such file" in command(main, "start", *here).err
    file.write_text("name: demo\nadress: fl.example.org:8443\n")
    assert "Did you mean 'address'?" in command(main, "provision", file).err
    for wrong in ("address: https://fl.example.org:8443", "address: a:1\nnames: [münchen.example]"):
        file.write_text(f"name: demo\n{wrong}\n")
        ended = command(main, "provision", file)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert "must be a host name or an IP address" in ended.err
    assert not (tmp_path / "state").exists()
    file.write_text("name: demo\naddress: fl.example.org:8443\n")
    for early in (("enrol", "alder", tmp_path / "x.pub"), ("revoke", "alder"), ("roster",)):
        ended = command(main, *early, *here)
        assert (ended.code, ended.err.count("\n")) == (2, 1)
        assert "Run `mama-server provision` first" in ended.err
    assert re.fullmatch("[0-9a-f]{64}\n", command(main, "bundle").out)
    ended = command(main, "start", *here)
    assert ended.code == 2
    assert "is not provisioned. Run `mama-server provision` first" in ended.err
    command(main, "provision", file)
    ended = command(main, "stop", tmp_path / "run", *here)
    assert (ended.code, ended.err) == (
        2,
        f"error: {tmp_path / 'run'}: is no run at work. `mama-server status` tells how it is\n",
    )
