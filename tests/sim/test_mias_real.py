"""A miniature of configs/mias.yaml on the real films, where they are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.cli import main as mama
from mama.data.adapters.mias import patient_number
from mama.data.manifest import Dataset
from sim.cli import main

ROOT = Path(__file__).parents[2]
FILMS = ROOT.parent / "shared" / "data" / "mini_mias"
MINIATURE = [
    "federation={rounds: 2, local_steps: 2, evaluate_every: 1}",
    "participation.quorum=3",
    "image.size=[48, 32]",
    "image.options={patch_size: 2, embed_dim: 48, depth: 1, num_heads: 3}",
    "text.layers=1",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (FILMS / "labels").is_file(),
        reason=f"mini-MIAS is not in ../{FILMS.relative_to(ROOT.parent)}; its licence keeps it out "
        "of the repository",
    ),
]


def test_two_rounds_on_real_films(command: Callable[..., Any], tmp_path: Path) -> None:
    out = tmp_path / "out"
    overrides = [part for override in MINIATURE for part in ("--set", override)]
    ended = command(
        main, "run", ROOT / "configs" / "mias.yaml", "--data", FILMS, "--out", out, *overrides
    )
    assert ended.code == 0, ended.err

    metrics = json.loads((out / "metrics.json").read_text())
    assert (metrics["status"], metrics["rounds"], metrics["problems"]) == ("finished", 2, [])
    assert metrics["sites"] == ["site-1", "site-2", "site-3"]
    figures = metrics["evaluation"]["federated"]["zero_shot"]["density"]
    assert 0 <= figures["auc"] <= 1

    films = sorted((FILMS / "png").glob("mdb*.png"))
    dealt = [Dataset(path) for path in sorted((out / "sites").glob("*/dataset"))]
    patients = [len({study.patient for study in one.manifest.studies}) for one in dealt]
    assert sum(patients) == len({patient_number(int(film.stem[3:])) for film in films})
    assert max(patients) - min(patients) <= 1

    few = tmp_path / "few"
    (few / "png").mkdir(parents=True)
    for film in films[:40]:
        (few / "png" / film.name).symlink_to(film)
    (few / "labels").write_text((FILMS / "labels").read_text())
    ended = command(
        mama, "evaluate", out / "final", few, "--adapter", "mias", "--json", tmp_path / "f.json"
    )
    assert ended.code == 0, ended.err
    found = json.loads((tmp_path / "f.json").read_text())["zero_shot"]
    assert 0 <= found["density"]["figures"]["auc"]["value"] <= 1
    assert found["density"]["n"] == 20
