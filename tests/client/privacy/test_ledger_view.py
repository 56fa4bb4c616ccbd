"""`mama-site ledger`: the table, the totals and the drawing of a ledger."""

from collections.abc import Callable
from pathlib import Path

import pytest

from client import cli
from client.privacy.round import roster_file, site_ledger
from client.site.config import load_site
from mama.privacy.accounting import Charge, prv_epsilon, rdp_epsilon, replace_one_epsilon
from mama.privacy.slots import PatientSlots


@pytest.fixture(autouse=True)
def _wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")


def of(charges: list[Charge]) -> list[str]:
    """RDP, PRV, and one replaced."""
    kinds = rdp_epsilon, prv_epsilon, replace_one_epsilon
    return [f"{epsilon(charges, 1e-5):.3f}" for epsilon in kinds]


def test_an_empty_ledger(site_file: Path, command: Callable) -> None:
    ended = command(cli.main, "ledger", site_file)
    assert ended.code == 0
    assert "epsilon 0.000 of 8 at delta 1e-05, after 0 steps charged" in ended.out
    assert "no roster yet" in ended.out


def test_the_runs_and_their_price(site_file: Path, command: Callable, tmp_path: Path) -> None:
    site = load_site(site_file)
    for run, z, rounds in (("first", 2.0, 3), ("second", 3.0, 2)):
        for number in range(1, rounds + 1):
            site_ledger(site, run, number, "d1").reserve(number, z, 0.1)
    PatientSlots(("a", "b", "c", None)).save(roster_file(site))
    picture = tmp_path / "ledger.png"
    ended = command(cli.main, "ledger", site_file, "--plot", picture, "--group-size", 2)
    book = site_ledger(site)
    assert ended.code == 0
    rows = [line for line in ended.out.splitlines() if "first" in line or "second" in line]
    assert [[cell.strip() for cell in row.split("│")[1:-1]] for row in rows] == [
        ["first", "1-3", "3", "2", "0.1", "d1", *of(book.charges[:1])],
        ["second", "1-2", "2", "3", "0.1", "d1", *of(book.charges)],
    ]
    assert f"epsilon {book.epsilon():.3f} of 8" in ended.out
    assert f"tighter account: {prv_epsilon(book.charges, 1e-5):.3f}" in ended.out
    assert f"by another: {replace_one_epsilon(book.charges, 1e-5):.3f}" in ended.out
    assert "3 of 4 slots filled: 50 % of groups of 2" in ended.out
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_changed_ledger_is_one_line(site_file: Path, command: Callable) -> None:
    path = site_ledger(load_site(site_file)).path
    path.parent.mkdir()
    path.write_bytes(b"0" * 64 + b' {"run": "r"}\n{"z": 1}\n')
    ended = command(cli.main, "ledger", site_file)
    assert ended.code == 0
    assert "2 torn by a crash" in ended.out
    site_ledger(load_site(site_file), "run").reserve(0, 2.0, 0.1)
    path.write_bytes(path.read_bytes().replace(b'"z":2.0', b'"z":9.0'))
    ended = command(cli.main, "ledger", site_file)
    assert (ended.code, ended.err.count("\n")) == (11, 1)
    assert "was changed" in ended.err


def test_a_ledger_that_was_cut_is_reported(site_file: Path, command: Callable) -> None:
    site = load_site(site_file)
    book = site_ledger(site, "run")
    book.reserve(0, 2.0, 0.1)
    (site.state / "runs" / "run").mkdir(parents=True)
    (site.state / "runs" / "run" / "ledger_head").write_text(book.head)
    assert command(cli.main, "ledger", site_file).code == 0
    book.path.unlink()
    ended = command(cli.main, "ledger", site_file)
    assert (ended.code, ended.err.count("\n")) == (11, 1)
    assert "lacks steps that were charged" in ended.err
    assert "after 0 steps charged" in ended.out


def test_a_group_or_a_picture_that_cannot_be_is_one_line(
    site_file: Path, command: Callable, tmp_path: Path
) -> None:
    PatientSlots(("a", "b", None)).save(roster_file(load_site(site_file)))
    ended = command(cli.main, "ledger", site_file)
    assert ended.code == 0
    assert "2 of 3 slots filled; --group-size shows the cost of empty slots" in ended.out
    ended = command(cli.main, "ledger", site_file, "--plot", tmp_path / "x.txt")
    assert ended.code == 2
    assert "x.txt: cannot be drawn. End it in .png, .svg, .pdf" in ended.err
