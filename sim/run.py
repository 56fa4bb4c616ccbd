"""One simulated federation, from configuration to reports."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client.app import make_app as make_client_app
from client.report import write_site_report
from client.sitefile import load_site
from mama.config import Experiment
from mama.exchange.fingerprint import fingerprint, parameter_counts
from mama.exchange.protocol import Description
from mama.exchange.tensors import put_trained, trained_arrays
from mama.export import save_final
from mama.model import MaMA, build_model
from server.app import make_app as make_server_app
from server.folder import Event, RunFolder
from server.report import write_report
from sim.config import Engine, SimulatedExperiment
from sim.inprocess import run_inprocess
from sim.sites import make_sites


@dataclass(frozen=True)
class Listeners:
    """Who is told of progress: stages of preparation, the server's events, a site's local steps."""

    stage: Callable[[str, int, int], None] = lambda name, done, total: None
    event: Callable[[Event], None] = lambda event: None
    step: Callable[[str, int], None] = lambda site, step: None


def simulate(
    config: SimulatedExperiment,
    out: Path,
    *,
    data: Path | None = None,
    engine: Engine = "inprocess",
    listeners: Listeners = Listeners(),
) -> dict[str, Any]:
    """Run all of it below `out`, or go on where an earlier run was stopped; returns metrics.json.

    Raises:
        MamaError: a mistake in data or configuration, or too few sites; what is done is kept.
    """
    sites = make_sites(config, out, data, listeners.stage)
    experiment = config.experiment()
    model = build_model(experiment)
    folder = RunFolder.create(out, experiment, trained_arrays(model), _base(model))
    files = [path for path, _ in sites.values()]
    try:
        run_engine(engine, folder, files, listeners)
    finally:
        if (out / "metrics.json").exists():
            write_report(out)
    finish(folder, model, experiment, files)
    metrics: dict[str, Any] = json.loads((out / "metrics.json").read_text())
    return metrics


def run_engine(
    engine: Engine, folder: RunFolder, site_files: list[Path], listeners: Listeners
) -> None:
    """Run the same ServerApp and ClientApp in this process or on Flower's simulation engine."""
    server_app = make_server_app(listeners.event)
    settings: dict[str, str | int] = {
        "out": str(folder.path.resolve()),
        "expected-sites": len(site_files),
    }
    if engine == "inprocess":
        client_app = make_client_app(listeners.step)
        run_inprocess(server_app, client_app, site_files, settings | {"sites-at-once": 1})
    else:
        from sim.flower import processors, run_flower

        run_flower(server_app, site_files, settings | {"sites-at-once": processors()})


def finish(folder: RunFolder, model: MaMA, experiment: Experiment, site_files: list[Path]) -> None:
    """Write final/ and each site's own report, which stays at the site."""
    put_trained(model, folder.latest().arrays)
    save_final(folder.path / "final", model, experiment)
    for path in site_files:
        write_site_report(load_site(path), folder.path / "final", path.parent / "site_report.html")


def _base(model: MaMA) -> Description:
    trained, frozen = parameter_counts(model)
    return Description(
        fingerprint=fingerprint(model), trained_parameters=trained, frozen_parameters=frozen
    )
