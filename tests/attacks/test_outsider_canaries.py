"""Planted identifiers that must be in no byte of what training keeps or sends.

They stand in headers, file names, folder names, report text, and burned into dose pages. The ingest
report is the site's own: it names files as they are in the source, and holds nothing of headers,
tables and reports.
"""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import sim.engines.inprocess
from client.cli import main
from mama.data.ingest.report import JSON, PAGE, WITH_REMARKS
from mama.data.manifest import Dataset
from sim.run import federate
from tests.mama.data.conftest import write_mammogram
from tests.mama.data.export import Person, page, write_export

STUDIES = 8  # a site; a batch has four
# Of each patient by number; a part that anyone has, such as "1.2.", would be found by chance.
HEADER = ("CANARY{n}HEAD", "MRN55{n}0199", "1931{m}17", "ACC88{n}0277", "1.2.826.77{n}0355")
PATHS = ("FOLDER{n}QUAIL", "FINCH{n}")
REPORT = ("Rotkehlchen", "Amsel-Drossel", "77{n}4410553", "03/{m}/1931", "99{n}8822713")
TEXT = (
    "Patient: {1}, {0} MRN: {2} DOB: {3} Accession number: {4}. Discussed with Dr. {0} {1} on {3}."
)


def planted(patterns: tuple[str, ...], number: int) -> list[str]:
    # Twenty patients and more have two digits each.
    return [text.format(n=number + 20, m=f"{number % 9 + 1:02d}") for text in patterns]


def patient(number: int) -> Person:
    name, mrn, born, accession, study = planted(HEADER, number)
    return Person(
        name=f"{name}^Anna",
        number=mrn,
        born=born,
        accession=accession,
        study=study,
        folder=planted(PATHS, number)[0],
        identifiers=TEXT.format(*planted(REPORT, number)),
    )


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """All messages of the engine in one process, in both directions, as they travel."""
    messages: list[bytes] = []
    real = sim.engines.inprocess.message_to_proto

    def recorded(message: Any) -> Any:
        made = real(message)
        messages.append(made.SerializeToString())
        return made

    monkeypatch.setattr(sim.engines.inprocess, "message_to_proto", recorded)
    return messages


def finders() -> Iterator[re.Pattern[bytes]]:
    """Patterns of all canaries in lower case, in any usual coding of text."""
    for coding, digit in (("utf-8", rb"\d"), ("utf-16-le", rb"\d\0"), ("utf-16-be", rb"\0\d")):
        for text in HEADER + PATHS + REPORT:
            parts = [part.lower().encode(coding) for part in re.split(r"\{.\}", text)]
            yield re.compile((2 * digit).join(map(re.escape, parts)))


FINDERS = list(finders())


def found(data: bytes) -> set[str]:
    """Canaries in the data, in lower case."""
    lower = data.lower()
    return {match.replace(b"\0", b"").decode() for one in FINDERS for match in one.findall(lower)}


def below(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*") if path.is_file())


@pytest.mark.slow  # two ingests and a federation, all of whose bytes are read
def test_no_canary_in_what_training_keeps_or_sends(
    site_files: Callable[..., list[Path]],
    small_config: Callable[..., Any],
    command: Callable[..., Any],
    sent: list[bytes],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    files, printed = site_files()[:2], ""
    for place, path in enumerate(files):
        numbers = range(place * STUDIES, (place + 1) * STUDIES)
        source = write_export(tmp_path / f"source-{place}", [patient(n) for n in numbers], 2)
        plant_names_and_a_page(source, patient(numbers[0]), numbers[0])
        settings = yaml.safe_load(path.read_text())
        settings["data"] |= {"source": str(source), "dataset": "planted", "workers": 1}
        path.write_text(yaml.safe_dump(settings))
        ended = command(main, "ingest", path, "--long-side", 96)
        assert (ended.code, ended.err) == (WITH_REMARKS, "")
        printed += ended.out
        dataset = Dataset(path.parent / "planted")
        assert [len(study.images) for study in dataset.manifest.studies] == [4] * STUDIES
        assert all(study.sentences for study in dataset.manifest.studies)

    out = tmp_path / "out"
    experiment = small_config("federation.rounds=1").experiment()
    metrics = federate(experiment, files, out)
    assert (metrics["status"], metrics["problems"]) == ("finished", [])

    assert len(sent) >= 4
    assert found(b"".join(sent)) == set()
    assert found((printed + caplog.text).encode()) == set()
    kept = [p for folder in (out, *(path.parent for path in files)) for p in below(folder)]
    assert len([path for path in kept if path.suffix == ".npy"]) >= 8 * STUDIES
    for path in kept:
        assert found(str(path.relative_to(tmp_path)).encode()) == set()
        if path.name not in (JSON, PAGE):
            assert found(path.read_bytes()) == set(), path

    # The site's own report names the files, and nothing else.
    people = range(2 * STUDIES)
    in_names = {text.lower() for n in people for text in planted(PATHS, n)}
    for name in (JSON, PAGE):
        for path in files:
            seen = found((path.parent / "planted" / name).read_bytes())
            assert seen
            assert seen <= in_names
    # The walk can fail: the sources have every one of them.
    sources = b"".join(
        str(p).encode() + p.read_bytes() for n in range(2) for p in below(tmp_path / f"source-{n}")
    )
    every = {text.lower() for n in people for text in planted(HEADER + PATHS + REPORT, n)}
    assert found(sources) == every


def plant_names_and_a_page(source: Path, one: Person, number: int) -> None:
    """Rename a file of each study, and add a text page that claims to be a mammogram."""
    for study, folder in enumerate(sorted((source / "dicom").iterdir())):
        name = planted(PATHS, number + study)[1]
        (folder / "IM0001").rename(folder / name)
    pixels = page("DOSE REPORT", one.name, one.number, one.born)
    write_mammogram(
        source / "dicom" / one.folder / "PAGE",
        np.ascontiguousarray(pixels),
        PatientID=one.number,
        PatientName=one.name,
        StudyInstanceUID=one.study,
        SOPInstanceUID=f"{one.study}.99",
    )
