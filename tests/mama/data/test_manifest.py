"""The manifest: what is written returns, studies are read when needed, and damage is one line."""

import hashlib
import json
import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import mama.data.manifest as module
from mama.config import Experiment
from mama.data.manifest import MANIFEST, Dataset, Manifest, read_manifest, write_manifest
from mama.data.pairs import StudyPairs
from mama.data.studies import Box, Image, Labels, Sentence, Studies, Study
from mama.errors import DataError
from mama.system.sealed import write_sealed

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
SIDE = st.sampled_from(["L", "R"])
NUMBER = st.floats(allow_nan=False, allow_infinity=False)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


def some(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.lists(strategy, max_size=2).map(tuple)


BOXES = st.builds(Box, x0=NUMBER, y0=NUMBER, x1=NUMBER, y1=NUMBER, label=TEXT)
IMAGES = st.builds(
    Image,
    id=TEXT,
    laterality=maybe(SIDE),
    view=maybe(TEXT),
    vendor=maybe(TEXT),
    height=st.integers(0, 2**40),
    width=st.integers(),
    boxes=some(BOXES),
    flags=some(TEXT),
)
LABELS = st.builds(
    Labels,
    density=maybe(TEXT),
    suspicious=maybe(st.dictionaries(SIDE, st.booleans())),
    birads=maybe(st.dictionaries(SIDE, TEXT)),
    cancer=maybe(st.dictionaries(SIDE, st.booleans())),
    findings=maybe(st.dictionaries(SIDE, some(TEXT))),
)
STUDIES = st.builds(
    Study,
    id=TEXT,
    patient=TEXT,
    split=st.sampled_from(["train", "test"]),
    images=some(IMAGES),
    sentences=some(
        st.builds(Sentence, text=TEXT, side=maybe(SIDE | st.just("both")), section=maybe(TEXT))
    ),
    labels=LABELS,
    age=maybe(TEXT),
)


def study(number: int, patient: str, split: str = "train", text: str = "A mass.") -> Study:
    image = Image(id=f"i{number}", laterality="L", view="CC", vendor=None, height=32, width=32)
    return Study(
        id=f"s{number}",
        patient=patient,
        split=split,
        images=(image,),
        sentences=(Sentence(text=text, side="L", section=None),),
        labels=Labels(),
    )


def write(folder: Path, studies: list[Study]) -> Path:
    manifest = Manifest(adapter="a", key_check="k", long_side=32, studies=studies)
    write_manifest(folder, manifest)
    return folder / MANIFEST


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The rows of the studies that were built so far."""
    rows: list[int] = []
    build = module._study

    def noted(file: object, columns: object, row: int, path: Path) -> Study:
        rows.append(row)
        return build(file, columns, row, path)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_study", noted)
    return rows


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(st.lists(STUDIES, max_size=3), TEXT, st.booleans())
def test_what_was_written_returns(
    tmp_path: Path, studies: list[Study], word: str, share: bool
) -> None:
    manifest = Manifest(
        adapter=word, key_check=word, long_side=7, share_weights=share, studies=studies
    )
    write_manifest(tmp_path, manifest)
    whole = (tmp_path / MANIFEST).read_bytes()
    found = read_manifest(tmp_path)
    assert found == manifest
    assert list(found.studies) == studies
    assert found.studies.ids == [s.id for s in studies]
    assert found.studies.patients == [s.patient for s in studies]
    for split in ("train", "test"):
        assert list(found.studies.of_split(split)) == [s for s in studies if s.split == split]
    write_manifest(tmp_path, found)
    assert (tmp_path / MANIFEST).read_bytes() == whole
    assert json.loads(whole)["records"] == [s.model_dump(mode="json") for s in studies]


def test_a_number_that_is_none_is_refused_before_it_is_written() -> None:
    with pytest.raises(ValueError, match="finite"):
        Box(x0=float("nan"), y0=0, x1=1, y1=1, label="")


def test_studies_are_built_when_asked_for(
    tmp_path: Path, built: list[int], make_experiment: Callable[..., Experiment]
) -> None:
    write(tmp_path, [study(n, f"p{n // 2}", "test" if n > 7 else "train") for n in range(12)])
    dataset = Dataset(tmp_path)
    train, test = dataset.studies("train"), dataset.studies("test")
    assert (len(train), len(test), len(test[1:3])) == (8, 4, 2)
    assert (train.patients[:3], test.ids[0]) == (["p0", "p0", "p1"], "s8")
    assert built == []
    assert (train[-1].id, test[1:][0].id) == ("s7", "s9")
    assert built == [7, 9]
    with pytest.raises(IndexError):
        train[8]
    built.clear()
    pairs = StudyPairs(dataset, make_experiment("optimiser.batch_size=2"), "site")
    assert (pairs.studies, len(pairs.patients), pairs.patients_in(range(9))) == (8, 4, 4)
    assert len(built) == 1  # until a report is found
    dataset.manifest.studies.mapped(lambda s: s)[3]
    assert built[1:] == [3]


def test_views_of_studies() -> None:
    held = [study(n, patient) for n, patient in enumerate("cabcb")]
    studies = Studies.of(held)
    assert studies == held
    assert studies != held[:-1]
    assert studies != held[::-1]
    assert studies[::-1] == held[::-1]
    assert studies[np.array([4, 0])] == [held[4], held[0]]
    assert studies[np.array([False, True, False, False, True])] == [held[1], held[4]]
    patients = studies.by_patient()
    assert patients.names == ["a", "b", "c"]
    assert [of.ids for of in patients] == [["s1"], ["s2", "s4"], ["s0", "s3"]]
    assert [of.ids for of in patients[1:]] == [["s2", "s4"], ["s0", "s3"]]
    assert studies[:1].by_patient().names == ["c"]
    assert list(studies[:0].by_patient()) == studies[:0].by_patient().names == []
    aged = studies.mapped(lambda one: one.model_copy(update={"age": one.id}))
    assert [one.age for one in aged[1:3]] == ["s1", "s2"]
    assert studies[1].age is None


def reseal(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file's content, with the checksum that then belongs to it."""
    body = change(path.read_bytes()[: -64 - 3])
    path.write_bytes(body + hashlib.sha256(body).hexdigest().encode() + b'"}\n')


HEADS: dict[str, Callable[[bytes], bytes]] = {
    "format": lambda b: b.replace(b'"format":4', b'"format":3'),
    "lengths": lambda b: b.replace(b'"id":["s0","s1"]', b'"id":["s0"]'),
    "patient": lambda b: b.replace(b'"patient":[0,1]', b'"patient":[0,2]'),
    "below": lambda b: b.replace(b'"patient":[0,1]', b'"patient":[-1,1]'),
    "large": lambda b: b.replace(b'"patient":[0,1]', b'"patient":[0,1' + b"0" * 5000 + b"]"),
    "deep": lambda b: b.replace(b'"patients":[', b'"patients":[' + b"[" * 100_000),
    "record": lambda b: b.replace(b",\n{", b"{"),
    "utf-8": lambda b: b.replace(b'"adapter":"a"', b'"adapter":"\xff"'),
}
ROWS: dict[str, Callable[[bytes], bytes]] = {
    "another study": lambda b: b.replace(b'{"id":"s1"', b'{"id":"s2"'),
    "another patient": lambda b: b.replace(b'"patient":"p1"', b'"patient":"p0"'),
    "another split": lambda b: b.replace(b'1","split":"train"', b'1","split":"test"'),
    "no study": lambda b: b.replace(b'"id":"i1"', b'"name":"i1"'),
    "no JSON": lambda b: b.replace(b'{"id":"s1"', b"[[[[[[[["),
}


@pytest.mark.parametrize("change", [*HEADS, *ROWS])
def test_content_that_fits_its_checksum_but_is_no_manifest(tmp_path: Path, change: str) -> None:
    path = write(tmp_path, [study(0, "p0", text="Zzyzx"), study(1, "p1", text="Zzyzx")])
    before = path.read_bytes()
    reseal(path, (HEADS | ROWS)[change])
    assert path.read_bytes() != before
    if change in ROWS:  # the columns are whole, and so is the other study
        assert read_manifest(tmp_path).studies[0].id == "s0"
    with pytest.raises(DataError) as error:
        list(read_manifest(tmp_path).studies)
    damaged = f"{path}: the manifest is damaged or of another version. Ingest the dataset again"
    assert str(error.value) == damaged
    assert "Zzyzx" not in "".join(traceback.format_exception(error.value))


@pytest.mark.parametrize("content", [b"", b"{}", b"\n" * 500, None, "cut", "format 3"])
def test_damaged_files(tmp_path: Path, content: bytes | str | None) -> None:
    path = write(tmp_path, [study(0, "p0")])
    if content == "cut":
        path.write_bytes(path.read_bytes()[:-20])
    elif content == "format 3":
        head = {"format": 3, "adapter": "a", "key_check": "k", "long_side": 32}
        write_sealed(path, head | {"studies": [study(0, "p0").model_dump(mode="json")]})
    elif content is None:
        path.unlink()
        path.mkdir()
    else:
        path.write_bytes(content)
    fault = "holds no ingested dataset" if content is None else "is damaged or of another version"
    with pytest.raises(DataError, match=f"{fault}\\. .*[Ii]ngest[^\n]*$"):
        Dataset(tmp_path)


def test_a_file_changed_in_place_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path, [study(0, "p0"), study(1, "p1")])
    studies = read_manifest(tmp_path).studies
    path.write_bytes(path.read_bytes().replace(b'"L"', b"\x00\x00\x00"))
    with pytest.raises(DataError, match="is damaged or of another version"):
        list(studies)
