"""Three small synthetic hospitals, made once, that tests copy before they change them."""

import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from client.policy.bounds import BOUNDS
from mama.system.processes import let_idle_threads_sleep

os.environ.setdefault("OMP_NUM_THREADS", "1")
let_idle_threads_sleep()

ROOT = Path(__file__).parents[1]
SMALL = [
    "simulation.train_studies=8",
    "simulation.test_studies=8",
    "image.options={patch_size: 4, embed_dim: 32, depth: 1, num_heads: 2}",
    "text.layers=1",
    "heads={embedding: 32, view_hidden: 32, local_hidden: 32}",
    "optimiser.batch_size=4",
    "federation={rounds: 2, local_steps: 2}",
    "participation={quorum: 2, deadline_s: 300}",
    "strategy.weights=studies",
    "loss.local.start=0.25",
]


@pytest.fixture(autouse=True)
def _logger_as_before() -> Iterator[None]:
    """A command with --quiet silences its process; the next test hears again."""
    logger = logging.getLogger("fedmama")
    level = logger.level
    yield
    logger.setLevel(level)


@pytest.fixture(scope="session")
def small_config():
    """The quickstart made small; call it with further overrides."""
    from mama.config.load import load
    from sim.config import SimulatedExperiment

    return lambda *overrides: load(
        SimulatedExperiment, ROOT / "configs" / "quickstart.yaml", [*SMALL, *overrides]
    )


@pytest.fixture(scope="session")
def made_sites(small_config, tmp_path_factory) -> Path:
    """A run's folder with hospitals and ingested sites, not to be changed."""
    from sim.sites import make_sites

    out = tmp_path_factory.mktemp("hospitals")
    make_sites(small_config(), out, None, lambda *_: None)
    for path in (out / "sites").glob("*/site.yaml"):
        open_policy(path)
    return out


def open_policy(path: Path) -> None:
    """Make a site accept everything, as most tests need; attacks use the defaults."""
    settings = yaml.safe_load(path.read_text())
    settings["policy"] |= {
        "min_patients_step": 1,
        "min_patients_update": 1,
        "max_model_step": None,
        "allow": ["scaffold", "guidance", "augment", *(bound.key for bound in BOUNDS)],
    }
    path.write_text(yaml.safe_dump(settings, sort_keys=False))


@pytest.fixture
def site_files(made_sites: Path, tmp_path: Path) -> Callable[[], list[Path]]:
    """A fresh copy of the ingested sites; returns their site files in order."""

    def copy(name: str = "copy") -> list[Path]:
        shutil.copytree(made_sites / "sites", tmp_path / name)
        return sorted((tmp_path / name).glob("*/site.yaml"))

    return copy


class Ended(NamedTuple):
    """How a command line ended."""

    code: int
    out: str
    err: str


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., Ended]:
    """Run a console script's `main` with arguments; an unexpected exception fails the test."""

    def run(main: Callable[[], None], *arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return Ended(code, *capsys.readouterr())

    return run


@pytest.fixture
def make_films(tmp_path: Path) -> Callable[..., Path]:
    """Draw a mini-MIAS of our own: pairs of films of F, G and D patients, and their table."""

    def make(name: str = "films", patients: int = 6) -> Path:
        folder = tmp_path / name
        (folder / "png").mkdir(parents=True)
        rows = []
        for film in range(1, 2 * patients + 1):
            tissue = (film - 1) // 2 % 3
            random = np.random.default_rng(film)
            pixels = np.zeros((64, 64), np.uint8)
            pixels[6:58, 2:40] = random.integers(40 + 60 * tissue, 90 + 60 * tissue, (52, 38))
            Image.fromarray(pixels).save(folder / "png" / f"mdb{film:03d}.png")
            finding = "NORM" if film % 4 else "SPIC M 30 30 9"
            rows.append(f"mdb{film:03d} {'FGD'[tissue]} {finding}")
        (folder / "labels").write_text("\n".join(rows) + "\n")
        return folder

    return make
