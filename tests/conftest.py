"""Three small synthetic hospitals, made once, that tests copy before they change them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).parents[1]
SMALL = [
    "simulation.train_studies=8",
    "simulation.test_studies=8",
    "image.options={patch_size: 4, embed_dim: 32, depth: 1, num_heads: 2}",
    "text.layers=1",
    "heads={embedding: 32, view_hidden: 32, local_hidden: 32}",
    "optimiser.batch_size=4",
    "federation={rounds: 2, local_steps: 2, quorum: 2, deadline_s: 120}",
    "loss.local.start=0.25",
]


@pytest.fixture(scope="session")
def small_config():
    """The quickstart made small; call it with further overrides."""
    from mama.configfile import load
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
    return out


@pytest.fixture
def site_files(made_sites: Path, tmp_path: Path) -> Callable[[], list[Path]]:
    """A fresh copy of the ingested sites; returns their site files in order."""

    def copy(name: str = "copy") -> list[Path]:
        shutil.copytree(made_sites / "sites", tmp_path / name)
        return sorted((tmp_path / name).glob("*/site.yaml"))

    return copy
