"""A run's rehearsal leaves its result in the run's folder and begins nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import client.app
import server.app
from mama.errors import QuorumError
from server.round.rehearsal import REHEARSAL, RehearsalReport
from server.run.folder import RunFolder
from sim.engines.inprocess import run_inprocess
from tests.events import records


def test_of_a_runs_folder_it_is_left_there_and_the_run_is_not_begun(
    small_config: Callable[..., Any], new_run: Callable[..., RunFolder], tmp_path: Path
) -> None:
    folder = new_run(small_config("strategy.local=['*norm*']").experiment(), tmp_path / "run")
    site = tmp_path / "site.yaml"
    site.write_text(
        "site: alder\ndata: {source: none, dataset: none}\nstate: state\nsecret: secret.key\n"
    )
    settings = {"out": str(folder.path), "expected-sites": 1, "sites-at-once": 1, "rehearse": 1}
    run_inprocess(server.app.make_app(), client.app.make_app(), [site], settings)
    report = RehearsalReport.read(folder.path / REHEARSAL)
    assert list(report.sites) == ["alder"]
    model = (folder.latest().folder / "model.safetensors").stat().st_size
    assert report.sites["alder"].bytes_down == pytest.approx(model, rel=0.1)
    assert records(folder) == []
    (folder.path / REHEARSAL).unlink()
    run_inprocess(server.app.make_app(), client.app.make_app(), [], settings)
    with pytest.raises(QuorumError, match="no site answered"):
        RehearsalReport.read(folder.path / REHEARSAL)
