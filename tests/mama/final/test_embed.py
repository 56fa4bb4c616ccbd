"""`mama embed`: a row per image, in the dataset's order, written in parts."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyarrow import parquet

from mama.cli import main
from mama.data.manifest import Dataset, Manifest, write_manifest
from mama.errors import ConfigError
from mama.evaluation.features import image_features
from mama.final import embed
from mama.final.pretrained import PretrainedMaMA


def test_rows_are_the_images_with_their_vectors(
    pretrained: PretrainedMaMA, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embed, "CHUNK", 10)
    assert embed.embed(pretrained, dataset, tmp_path / "e.parquet") == 56
    file = parquet.ParquetFile(tmp_path / "e.parquet")
    assert file.metadata.num_row_groups == 5  # of three studies with four images each
    table = file.read()
    studies = list(dataset.manifest.studies)
    assert table["image"].to_pylist() == [i.id for s in studies for i in s.images]
    assert table["patient"].to_pylist() == [s.patient for s in studies for _ in s.images]
    assert table["view"].to_pylist()[:2] == ["CC", "MLO"]
    assert table["split"].to_pylist() == ["train"] * 32 + ["test"] * 24
    vectors = np.stack(table["embedding"].to_numpy())
    device = torch.device("cpu")
    expected = image_features(pretrained.model, dataset, studies, device).embeddings
    np.testing.assert_allclose(vectors, expected.numpy(), atol=1e-6)
    assert (tmp_path / "e.parquet").stat().st_mode & 0o777 == 0o600


def test_the_command(
    command: Callable[..., Any], run: Path, dataset: Dataset, tmp_path: Path
) -> None:
    out = tmp_path / "e.parquet"
    ended = command(main, "embed", run, dataset.folder, "--out", out)
    assert (ended.code, ended.err) == (0, "")
    assert "no medical device" in ended.out
    assert f"56 images: {out}" in ended.out
    write_manifest(tmp_path / "none", Manifest(adapter="t", key_check="", long_side=32, studies=()))
    ended = command(main, "embed", run, tmp_path / "none", "--out", tmp_path / "none.parquet")
    assert (ended.code, ended.err.count("\n")) == (3, 1)
    assert "has no images" in ended.err
    assert not (tmp_path / "none.parquet").exists()


def test_without_pyarrow_one_line_says_what_to_install(
    pretrained: PretrainedMaMA, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"Parquet needs pyarrow.*fedmama\[parquet\]"):
        embed.embed(pretrained, dataset, tmp_path / "e.parquet")
    assert list(tmp_path.iterdir()) == []
