"""`mama-site`: what it prints, and one line and an exit code for every mistake."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.cli import main
from mama.data.ingest.report import PAGE, WITH_REMARKS
from sim.run import federate


@pytest.fixture
def own_archive(made_sites: Path, edit: Callable[..., Path], tmp_path: Path) -> Path:
    """The hospital's archive as a copy that a test may damage; the site file names it."""
    archive = tmp_path / "archive"
    shutil.copytree(made_sites / "hospitals" / "alder", archive)
    edit(data={"source": str(archive), "dataset": "dataset", "workers": 1})
    return archive


def refused(ended: Any) -> str:
    assert ended.out == ""
    assert ended.err.startswith("error: ")
    assert ended.err.count("\n") == 1
    return ended.err


def test_ingest_says_what_it_found(
    command: Callable[..., Any], own_archive: Path, site_file: Path
) -> None:
    ended = command(main, "ingest", site_file, "--long-side", 96)
    assert (ended.code in (0, WITH_REMARKS), ended.err) == (True, "")
    assert ended.out.startswith("16 studies of 16 patients, 64 images, ")
    again = command(main, "ingest", site_file, "--long-side", 96)
    assert again.out.startswith("16 studies of 16 patients, 64 images, 64 from the cache\n")


def test_ingest_at_another_size_is_refused_and_changes_nothing(
    command: Callable[..., Any], site_file: Path
) -> None:
    """Rounds that are under way train on these pictures."""
    assert command(main, "ingest", site_file, "--long-side", 96).code in (0, WITH_REMARKS)
    dataset = site_file.parent / "dataset"
    before = {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()}
    for size in (64, 128):
        ended = command(main, "ingest", site_file, "--long-side", size)
        assert ended.code == 2
        assert f"holds a dataset at 96 pixels, not {size}. Choose another folder" in ended.err
    assert {path: path.read_bytes() for path in dataset.rglob("*") if path.is_file()} == before


def test_one_corrupt_file_is_named_and_the_others_are_used(
    command: Callable[..., Any],
    own_archive: Path,
    site_file: Path,
    site_files: Callable[..., list[Path]],
    small_config: Callable[..., Any],
    tmp_path: Path,
) -> None:
    whole = sorted(own_archive.rglob("*.dcm"))[5]
    broken = whole.with_name("broken-exposure.dcm")
    whole.rename(broken)
    broken.write_bytes(broken.read_bytes()[:-2000])
    ended = command(main, "ingest", site_file, "--long-side", 96)
    assert ended.code == WITH_REMARKS
    assert ended.out.startswith("16 studies of 16 patients, 63 images, ")
    assert "1 file left out: unreadable (1)" in ended.out
    page = (site_file.parent / "dataset" / PAGE).read_text(encoding="utf-8")
    assert "broken-exposure.dcm" in page

    experiment = small_config("federation.rounds=1", "federation.local_steps=1").experiment()
    files = [site_file, *site_files("others")[1:]]
    metrics = federate(experiment, files, tmp_path / "out")
    assert (metrics["status"], metrics["problems"]) == ("finished", [])
    assert metrics["sites"] == ["alder", "birch", "cedar"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda source: shutil.rmtree(source), "no such folder. Check the path"),
        (lambda source: (source / "reports.csv").unlink(), "reports.csv is missing"),
        (lambda source: shutil.rmtree(source / "dicom"), "no studies. Check the path"),
    ],
)
def test_a_folder_without_data(
    command: Callable[..., Any],
    own_archive: Path,
    site_file: Path,
    change: Callable[[Path], None],
    message: str,
) -> None:
    change(own_archive)
    ended = command(main, "ingest", site_file, "--long-side", 96)
    assert ended.code == 2
    assert f"{own_archive}: {message}" in refused(ended)


def test_an_unknown_code_in_the_report_table(
    command: Callable[..., Any], own_archive: Path, site_file: Path
) -> None:
    table = own_archive / "reports.csv"
    lines = table.read_text().splitlines()
    cells = lines[0].split(",")
    assert cells[2] == "density"
    head, _, tail = lines[3].rpartition('",')
    lines[3] = f'{head}",{tail}' if head else lines[3]
    parts = lines[3].rsplit(",", 4)
    lines[3] = ",".join([parts[0], "E", *parts[2:]])
    table.write_text("\n".join(lines) + "\n")
    ended = command(main, "ingest", site_file, "--long-side", 96)
    assert ended.code == 2
    assert f"{table}, line 4, column 'density': unknown value. Use one of A, B, C, D" in refused(
        ended
    )


def test_mistakes_in_the_site_file(
    command: Callable[..., Any], edit: Callable[..., Path], tmp_path: Path
) -> None:
    ended = command(main, "ingest", tmp_path / "none.yaml", "--long-side", 96)
    assert ended.code == 2
    assert f"{tmp_path / 'none.yaml'}: no such file" in refused(ended)

    path = edit(polcy={"minimum_cell": 3})
    ended = command(main, "ingest", path, "--long-side", 96)
    assert ended.code == 2
    assert f"{path}: unknown key 'polcy'. Did you mean 'policy'?" in refused(ended)


def test_an_unknown_adapter(
    command: Callable[..., Any], edit: Callable[..., Path], site_file: Path
) -> None:
    data = yaml.safe_load(site_file.read_text())["data"]
    path = edit(data=data | {"adapter": "pacs"})
    ended = command(main, "ingest", path, "--long-side", 96)
    assert ended.code == 2
    assert "unknown adapter 'pacs'. Choose cbis_ddsm, " in refused(ended)


@pytest.mark.parametrize("value", ["0", "-5", "100000", "wide"])
def test_an_impossible_long_side(command: Callable[..., Any], site_file: Path, value: str) -> None:
    before = sorted((site_file.parent / "dataset" / "images").iterdir())
    ended = command(main, "ingest", site_file, "--long-side", value)
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert sorted((site_file.parent / "dataset" / "images").iterdir()) == before


def test_a_report_needs_a_model(
    command: Callable[..., Any], site_file: Path, tmp_path: Path
) -> None:
    ended = command(main, "report", site_file, tmp_path)
    assert ended.code == 4
    assert f"{tmp_path}: the folder holds no model. Specify a finished run's folder" in refused(
        ended
    )
