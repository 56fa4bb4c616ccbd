"""`mama-site ingest` pulls from a real archive (Orthanc), through kills and changes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.cli import main
from mama.data.ingest.report import WITH_REMARKS
from mama.data.manifest import Dataset
from tests.mama.data.conftest import breast, write_dicom
from tests.mama.data.pacs.orthanc import MISSING, PASSWORD, USER, Orthanc, running

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(MISSING is not None, reason=MISSING or "installed"),
]
assert write_dicom  # a fixture
ROOT = Path(__file__).parents[3]
MODALITY = "1.2.840.10008.5.1.4.1.1"
NO_PIXELS = {"Rows": None, "Columns": None, "PixelData": None}
SHAPE = (320, 240)  # pixels


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running(tmp_path_factory.mktemp("archive") / "orthanc") as archive:
        yield archive


@pytest.fixture
def exported(
    orthanc: Orthanc, tmp_path: Path, write_dicom: Callable[..., Path]
) -> Callable[..., Path]:
    """Write an object of study `number`, one of 2020-01, and store it in the archive too."""
    for study in yaml.safe_load(orthanc.call("/studies")):
        orthanc.call(f"/studies/{study}", method="DELETE")

    def export(number: int, name: str, **fields: Any) -> Path:
        side, view = name[0], name[1:]
        picture = breast(*SHAPE, seed=number + ord(side) + len(view))
        path = write_dicom(
            tmp_path / "export" / "dicom" / f"{number}{name}.dcm",
            picture if side == "L" else picture[:, ::-1],
            **{
                "PatientID": f"patient-{number}",
                "StudyInstanceUID": f"1.2.{number}",
                "SeriesInstanceUID": f"1.2.{number}.9",
                "SOPInstanceUID": f"1.2.{number}.{int.from_bytes(name.encode())}",
                "StudyDate": f"202001{number:02}",
                "ImageLaterality": side,
                "ViewPosition": view,
            }
            | fields,
        )
        orthanc.store(path)
        return path

    return export


@pytest.fixture
def site(orthanc: Orthanc, exported: Callable[..., Path], tmp_path: Path) -> Path:
    """A site that pulls three studies, among them objects that are no mammograms."""
    for number in (1, 2, 3):
        for name in ("LCC", "LMLO", "RCC", "RMLO"):
            exported(number, name)
    exported(1, "SR", SOPClassUID=f"{MODALITY}.88.67", Modality="SR", **NO_PIXELS)
    exported(2, "TOMO", SOPClassUID=f"{MODALITY}.13.1.3", NumberOfFrames=1)
    exported(3, "PROC", SOPClassUID=f"{MODALITY}.1.2.1", PresentationIntentType="FOR PROCESSING")
    rows = [f"1.2.{number},No mass in the left breast.,C,0,0," for number in range(1, 9)]
    table = "study,report,density,suspicious_left,suspicious_right,split\n" + "\n".join(rows)
    for folder in ("export", "source"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder / "reports.csv").write_text(table + "\n")
    (tmp_path / "word").write_text(f"{USER}:{PASSWORD}\n")
    (tmp_path / "word").chmod(0o600)
    return write_site(tmp_path, "source", pacs={"url": orthanc.url})


def write_site(folder: Path, source: str, pacs: dict[str, Any] | None = None) -> Path:
    data: dict[str, Any] = {"source": source, "dataset": f"dataset-{source}", "workers": 1}
    if pacs:
        days = {"study_date": ["2020-01-01", None], "credentials": "word"}
        data["pacs"] = days | pacs
    settings = {"site": "alder", "data": data, "state": "state", "secret": "secret.key"}
    path = folder / f"{source}.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def pulled(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Modification time and content of what is complete."""
    return {
        path.name: (path.stat().st_mtime_ns, path.read_bytes())
        for path in (folder / "source" / "pacs").glob("1.2.*/*.dcm")
    }


def test_ingest_of_the_archive_is_that_of_its_export(
    site: Path, tmp_path: Path, command: Callable[..., Any]
) -> None:
    ended = command(main, "ingest", site, "--long-side", 96)
    assert (ended.code in (0, WITH_REMARKS), ended.err) == (True, "")
    assert ended.out.startswith(
        "archive: 3 studies, 3 new, 0 changed\n"
        "left in the archive: 1 for-processing, 1 no-image, 1 tomosynthesis\n"
        "3 studies of 3 patients, 12 images, "
    )
    from_folder = write_site(tmp_path, "export")
    assert command(main, "ingest", from_folder, "--long-side", 96).code == WITH_REMARKS
    one, other = (Dataset(tmp_path / f"dataset-{name}") for name in ("source", "export"))
    assert one.manifest == other.manifest
    for study in one.manifest.studies:
        for image in study.images:
            assert (one.pixels(image) == other.pixels(image)).all()
    exports = {path.read_bytes() for path in (tmp_path / "export" / "dicom").glob("*.dcm")}
    assert {content for _, content in pulled(tmp_path).values()} <= exports


def test_dates_changes_and_a_wrong_password(
    site: Path,
    orthanc: Orthanc,
    tmp_path: Path,
    exported: Callable[..., Path],
    command: Callable[..., Any],
) -> None:
    two = {"url": orthanc.url, "study_date": ["2020-01-02", "2020-01-31"]}
    write_site(tmp_path, "source", pacs=two)
    assert "archive: 2 studies, 2 new" in command(main, "ingest", site, "--long-side", 96).out
    before = pulled(tmp_path)
    exported(3, "LML")
    exported(4, "LCC")
    ended = command(main, "ingest", site, "--long-side", 96)
    assert "archive: 3 studies, 1 new, 1 changed" in ended.out
    after = pulled(tmp_path)
    assert len(after) == 10
    assert {name for name in before if before[name] == after[name]} == {
        name for name in before if name.startswith("1.2.2.")
    }
    (tmp_path / "word").write_text(f"{USER}:another-word\n")
    ended = command(main, "ingest", site, "--long-side", 96)
    assert (ended.code, ended.out) == (12, "")
    assert ended.err == (
        f"error: {orthanc.url}: refuses the credentials (401). Check data.pacs.credentials\n"
    )
    assert pulled(tmp_path) == after


def test_killed_while_it_pulls(
    site: Path, orthanc: Orthanc, tmp_path: Path, command: Callable[..., Any]
) -> None:
    """Complete studies are not pulled again; a study is complete or absent."""
    folder = tmp_path / "source" / "pacs"
    code = f"""
import time
from pathlib import Path
from mama.config.ingest import PacsConfig
from mama.data.pacs import pull
word = Path({str(tmp_path / "word")!r})
config = PacsConfig(url={orthanc.url!r}, study_date=("2020-01-01", None), credentials=word)
pull(config, Path({str(folder.parent)!r}))
time.sleep(300)  # so that the signal always finds it
"""
    for pattern in (".partial/*/*.dcm", "1.2.*/pulled.json", ".partial/1.2.[23]/*.dcm"):
        before = pulled(tmp_path)
        process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT)
        while process.poll() is None and not any(folder.glob(pattern)):
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(30) == -signal.SIGKILL
        kept = pulled(tmp_path)
        assert before.items() <= kept.items()
        for study in folder.glob("1.2.*"):
            assert len(list(study.glob("*.dcm"))) == 4
    assert command(main, "ingest", site, "--long-side", 96).code == WITH_REMARKS
    last = pulled(tmp_path)
    assert kept.items() <= last.items()
    exports = {path.read_bytes() for path in (tmp_path / "export" / "dicom").glob("*.dcm")}
    assert {content for _, content in last.values()} <= exports
    assert len(last) == 12
    assert not (folder / ".partial").exists()
