"""The coordinator's roster reaches the disk of every site through the ServerApp."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import client.app
import server.app
from client.identity.roster import read_roster
from client.site.config import load_site
from mama.errors import QuorumError
from mama.exchange.fingerprint import describe
from mama.exchange.signing import write_key_pair
from mama.exchange.tensors import trained_arrays
from mama.model import build_model
from server.federation import roster
from server.federation.home import Home
from server.federation.provision import pin, provision
from server.run.folder import RunFolder
from sim.engines.inprocess import run_inprocess
from tests.events import records


def make_home(folder: Path) -> Home:
    folder.mkdir()
    (folder / "federation.yaml").write_text("name: demo\naddress: fl.example.org:8443\n")
    home = Home(folder / "federation.yaml")
    provision(home)
    return home


def join(home: Home, file: Path) -> None:
    """A simulated site becomes a member."""
    folder, settings = file.parent, yaml.safe_load(file.read_text())
    settings["coordinator"] = {
        "address": home.file.address,
        "certificate": str(home.ca_certificate),
        "pin": pin(home),
    }
    file.write_text(yaml.safe_dump(settings))
    write_key_pair(folder / "node.key", folder / "node.pub")
    roster.enrol(home, settings["site"], folder / "node.pub", share=2.5)


def test_it_reaches_every_site_and_one_of_another_coordinator_nobody(
    small_config: Callable[..., Any], site_files: Callable[..., list[Path]], tmp_path: Path
) -> None:
    home, other = make_home(tmp_path / "home"), make_home(tmp_path / "other")
    files = site_files("sites")
    for file in files:
        join(home, file)
    experiment = small_config("federation.rounds=1", "federation.local_steps=1").experiment()
    model = build_model(experiment)
    folder = RunFolder.create(tmp_path / "run", experiment, trained_arrays(model), describe(model))

    def run(whose: Home) -> None:
        settings: dict[str, str | int] = {"expected-sites": len(files), "sites-at-once": 1}
        settings |= {"out": str(folder.path), "roster": str(whose.roster)}
        run_inprocess(server.app.make_app(), client.app.make_app(), files, settings)

    with pytest.raises(QuorumError):
        run(other)
    problems = [event["problem"] for event in records(folder) if event["event"] == "problem"]
    # Each site refuses the other coordinator's roster, on which its key is not.
    assert problems == ["its answer is not signed by a site on the roster"] * 3
    assert [read_roster(load_site(file)) for file in files] == [None] * 3

    run(home)
    signed = roster.read_roster(home)
    assert [(member.site, member.share) for member in signed.active] == [
        ("alder", 2.5),
        ("birch", 2.5),
        ("cedar", 2.5),
    ]
    assert [read_roster(load_site(file)) for file in files] == [signed] * 3
