"""A run's folder with a tiny model, and a mammogram as DICOM and as a picture."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mama.config import Experiment
from mama.final.pretrained import PretrainedMaMA
from mama.final.saved import save_final
from mama.model import MaMA, build_model
from mama.system.sealed import sealed_line, write_sealed
from tests.mama.data.conftest import breast, write_mammogram


def stirred(model: MaMA) -> MaMA:
    """A model whose adapters and special vectors are not those of the start."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
        model.logit_scale.fill_(1.0)
    return model


@pytest.fixture(scope="session")
def make_run(
    make_experiment: Callable[..., Experiment],
    base_models: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[..., Path]:
    """Save a run's folder of an experiment with overrides, without a record of the run."""

    def make(*overrides: str) -> Path:
        experiment = make_experiment(*overrides)
        folder = tmp_path_factory.mktemp("run")
        save_final(folder / "final", stirred(build_model(experiment, base_models)), experiment)
        return folder

    return make


@pytest.fixture(scope="session")
def run(make_run: Callable[..., Path]) -> Path:
    """A run's folder with record, not to be changed."""
    folder = make_run()
    figures = {"auc": 0.875, "balanced_accuracy": 0.75, "classes": {"A": 5, "D": 6}}
    evaluation = {"federated": {"zero_shot": {"density": figures, "suspicious": {"auc": None}}}}
    outcome = {"run": "abc", "rounds": 5, "sites": ["alder", "birch"], "evaluation": evaluation}
    write_sealed(folder / "metrics.json", outcome)
    tables = {"density": {"total": 10, "cells": {"A": 6, "D": None}}}
    events = []
    for site, patients in (("alder", 9), ("birch", 8), ("birch", 7)):
        counts = {"minimum": 1, "patients": patients, "studies": 12, "tables": tables}
        events.append({"event": "statistics", "site": site, "statistics": counts})
    # By default a site's policy releases none.
    events.append({"event": "statistics", "site": "cedar", "statistics": None})
    (folder / "rounds.jsonl").write_bytes(b"".join(map(sealed_line, events)))
    return folder


@pytest.fixture(scope="session")
def pretrained(run: Path) -> PretrainedMaMA:
    return PretrainedMaMA.from_pretrained(run)


@pytest.fixture(scope="session")
def dicom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A right breast, its chest wall on the right."""
    path = tmp_path_factory.mktemp("images") / "right.dcm"
    return write_mammogram(path, breast()[:, ::-1], ImageLaterality="R", ViewPosition="MLO")


@pytest.fixture(scope="session")
def png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("images") / "breast.png"
    Image.fromarray((breast() >> 4).astype(np.uint8)).save(path)
    return path
