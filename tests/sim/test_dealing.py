"""Patients of a shared dataset are dealt whole, by seed, and as links."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mama.data.adapters.mias import patient_number, read
from mama.errors import DataError
from sim.dealing import deal_mias

Films = Callable[..., Path]


def patients(folder: Path) -> dict[str, set[int]]:
    return {
        site.name: {patient_number(int(film.stem[3:])) for film in (site / "png").iterdir()}
        for site in sorted(folder.iterdir())
    }


def everything(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_text()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


def test_each_patient_goes_to_one_site(make_films: Films, tmp_path: Path) -> None:
    names = deal_mias(make_films(patients=7), tmp_path / "out", 3, 0)
    assert names == ["site-1", "site-2", "site-3"]
    dealt = patients(tmp_path / "out")
    assert list(dealt) == names
    assert sorted(map(len, dealt.values())) == [2, 2, 3]
    assert sorted(p for mine in dealt.values() for p in mine) == list(range(1, 8))
    assert sum(len(list(site.glob("png/*"))) for site in (tmp_path / "out").iterdir()) == 14


def test_films_are_links_and_labels_those_of_the_sites_own_films(
    make_films: Films, tmp_path: Path
) -> None:
    data = make_films()
    deal_mias(data, tmp_path / "out", 2, 0)
    rows = (data / "labels").read_text().splitlines()
    dealt = []
    for site in (tmp_path / "out").iterdir():
        films = sorted((site / "png").iterdir())
        assert all(film.is_symlink() for film in films)
        assert all(film.resolve() == (data / "png" / film.name).resolve() for film in films)
        mine = (site / "labels").read_text().splitlines()
        assert [row.split()[0] for row in mine] == [film.stem for film in films]
        assert all(study.labels.density for study in read(site).studies)
        dealt += mine
    assert sorted(dealt) == sorted(rows)


def test_the_seed_decides(make_films: Films, tmp_path: Path) -> None:
    data = make_films(patients=12)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        deal_mias(data, tmp_path / name, 3, seed)
    assert everything(tmp_path / "a") == everything(tmp_path / "b")
    assert patients(tmp_path / "a") != patients(tmp_path / "c")


def test_dealing_again_changes_nothing(make_films: Films, tmp_path: Path) -> None:
    data = make_films()
    deal_mias(data, tmp_path / "out", 3, 0)
    before = everything(tmp_path / "out")
    deal_mias(data, tmp_path / "out", 3, 0)
    assert everything(tmp_path / "out") == before


def test_dealing_otherwise_leaves_nothing_of_the_first(make_films: Films, tmp_path: Path) -> None:
    data = make_films(patients=9)
    deal_mias(data, tmp_path / "out", 3, 0)
    deal_mias(data, tmp_path / "out", 3, 1)
    deal_mias(data, tmp_path / "fresh", 3, 1)
    assert everything(tmp_path / "out") == everything(tmp_path / "fresh")


def test_data_that_moved_is_linked_anew(make_films: Films, tmp_path: Path) -> None:
    data = make_films()
    deal_mias(data, tmp_path / "out", 2, 0)
    data.rename(tmp_path / "moved")
    deal_mias(tmp_path / "moved", tmp_path / "out", 2, 0)
    assert all(film.is_file() for film in (tmp_path / "out").glob("*/png/*"))


def test_other_files_are_not_films(make_films: Films, tmp_path: Path) -> None:
    data = make_films()
    for name in ("mdb001 (1).png", "mdbnotes.png", "thumbs.png"):
        (data / "png" / name).write_bytes(b"")
    deal_mias(data, tmp_path / "out", 2, 0)
    names = {film.name for film in (tmp_path / "out").glob("*/png/*")}
    assert names == {f"mdb{film:03d}.png" for film in range(1, 13)}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("mdb004 G SPIC M", "mdb004 G SPIX M", "labels, line 4, column 'class'"),
        ("mdb002 F", "mdb002 Q", "labels, line 2, column 'tissue'"),
        ("mdb004 G SPIC M", "mdb004 G SPIC X", "labels, line 4, column 'severity'"),
    ],
)
def test_an_unknown_code_is_named_in_the_file_that_was_given(
    make_films: Films, tmp_path: Path, old: str, new: str, message: str
) -> None:
    data = make_films()
    text = (data / "labels").read_text()
    assert old in text
    (data / "labels").write_text(text.replace(old, new))
    with pytest.raises(DataError) as error:
        deal_mias(data, tmp_path / "out", 2, 0)
    assert str(error.value).startswith(f"{data}/")
    assert message in str(error.value)
    assert not (tmp_path / "out").exists()


def test_missing_films_and_labels(make_films: Films, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        deal_mias(tmp_path / "nothing", tmp_path / "out", 2, 0)
    data = make_films()
    (data / "labels").unlink()
    with pytest.raises(DataError, match=r"the label table is missing\. Put it there") as error:
        deal_mias(data, tmp_path / "out", 2, 0)
    assert str(data / "labels") in str(error.value)
