"""Files of a run, dataset, site or coordinator, closed to other users but for shared ones."""

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import client.cli
import mama.cli
import server.cli
import sim.cli
from mama.exchange.signing import write_key_pair
from mama.system.files import private_folder, replacing, write_bytes, write_text
from tests.conftest import SMALL

HANDED_OUT = {".crt", ".pub"}


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def readable(folder: Path) -> list[str]:
    """All below a folder, and itself, that others than the owner have any right to."""
    return [
        str(path)
        for path in [folder, *folder.rglob("*")]
        if not path.is_symlink()
        and path.suffix not in HANDED_OUT
        and stat.S_IMODE(path.stat().st_mode) & 0o077
    ]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.slow
def test_a_simulations_folder(command: Callable, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "one"
    overrides = [word for text in [*SMALL, "federation.rounds=1"] for word in ("--set", text)]
    ended = command(sim.cli.main, "run", "configs/quickstart.yaml", "--out", out, *overrides)
    assert ended.code == 0, ended.err
    assert {"final", "sites", "audit.jsonl", "tensorboard"} <= {p.name for p in out.iterdir()}
    assert len(list(out.rglob("*.npy"))) > 10
    assert (out / "sites" / "alder" / "site_report.html").exists()
    assert readable(tmp_path / "runs") == []


def test_a_dataset(
    command: Callable,
    make_films: Callable[..., Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ("ingest", make_films(), "--adapter", "mias", "--long-side", 64)
    assert command(mama.cli.main, *words, tmp_path / "data" / "mias").code == 0
    assert len(list((tmp_path / "data").rglob("*.npy"))) == 12
    assert readable(tmp_path / "data") == []
    # Without the commands' umask the pictures have the rights that numpy gives them: the walk can
    # fail.
    with monkeypatch.context() as patched:
        os.umask(0)
        patched.setattr(os, "umask", lambda _: 0)
        assert command(mama.cli.main, *words, tmp_path / "open").code == 0
    assert len([path for path in readable(tmp_path / "open") if path.endswith(".npy")]) == 12


def test_a_site_and_a_coordinator(command: Callable, tmp_path: Path) -> None:
    federation = tmp_path / "coordinator" / "federation.yaml"
    private_folder(federation.parent)
    write_text(
        federation,
        "name: test\naddress: 127.0.0.1:18443\nlisten: 127.0.0.1:18100\n",
    )
    ended = command(server.cli.main, "provision", federation)
    assert ended.code == 0, ended.err
    (certificate,) = federation.parent.rglob("ca.crt")
    ended = command(
        client.cli.main, "init", tmp_path / "site", "--site", "alder", "--source", tmp_path,
        "--address", "127.0.0.1:18443", "--certificate", certificate,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert readable(federation.parent) == readable(tmp_path / "site") == []
    assert len(list(federation.parent.rglob("*.key"))) == 2


def test_files_are_the_owners_and_keys_public_half_is_not(tmp_path: Path) -> None:
    write_text(tmp_path / "a" / "b" / "text", "x")
    with replacing(tmp_path / "a" / "other") as temporary:
        temporary.write_text("x")
    assert readable(tmp_path / "a") == []
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700
    os.umask(0o077)
    write_bytes(tmp_path / "shared", b"x", private=False)
    write_key_pair(tmp_path / "k.key", tmp_path / "k.pub")
    assert (mode(tmp_path / "k.key"), mode(tmp_path / "k.pub")) == (0o600, 0o644)
    assert mode(tmp_path / "shared") == 0o644


def test_a_folder_that_is_there_keeps_its_rights(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir(mode=0o775)
    private_folder(shared / "own")
    assert (mode(shared), mode(shared / "own")) == (0o775, 0o700)
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        private_folder(tmp_path / "file")
