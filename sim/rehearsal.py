"""Rehearsal on one machine: sites without data take turns in this process, without a network.

It measures sizes, the work of encoding and checking, and the memory of server and one site.
"""

import tempfile
from pathlib import Path

import yaml
from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from client.app import make_app
from mama.config import Experiment
from mama.exchange.fingerprint import parameter_counts
from mama.model import build_model
from mama.system.files import write_text
from server.cohort.signers import Signers
from server.round.rehearsal import RehearsalReport, rehearse
from sim.engines.inprocess import run_inprocess


def rehearse_here(experiment: Experiment, sites: int) -> RehearsalReport:
    """Exchange random tensors of the experiment's size once with each of `sites` sites."""
    parameters, _ = parameter_counts(build_model(experiment))
    reports: list[RehearsalReport] = []
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        reports.append(rehearse(grid, experiment, parameters, "rehearsal", Signers()))

    with tempfile.TemporaryDirectory(prefix="fedmama-") as folder:
        names = [f"site-{number}" for number in range(1, sites + 1)]
        files = [_site_file(Path(folder) / name, name) for name in names]
        run_inprocess(app, make_app(), files, {})
    return reports[0]


def _site_file(folder: Path, name: str) -> Path:
    settings = {
        "site": name,
        "data": {"source": "none", "dataset": "none"},
        "state": "state",
        "secret": "secret.key",
    }
    path = folder / "site.yaml"
    write_text(path, yaml.safe_dump(settings))
    return path
