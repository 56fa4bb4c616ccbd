"""One simulated federation, from configuration to reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from client.app import make_app as make_client_app
from client.approval import Approvals
from client.report import write_site_report
from client.sitefile import load_site
from mama.claims import refuse_another, refuse_foreign
from mama.config import Experiment
from mama.exchange.fingerprint import describe
from mama.exchange.method import initial_arrays, split
from mama.exchange.tensors import put_trained
from mama.export import save_final
from mama.files import write_text
from mama.locks import at_work_in
from mama.model import build_model
from mama.privacy.plan import require_possible
from mama.sealed import read_if_whole
from mama.start import start_from
from server.app import make_app as make_server_app
from server.folder import METRICS, Event, RunFolder
from server.report import write_report
from sim.config import DEFAULT_ENGINE, Engine, SimulatedExperiment
from sim.inprocess import run_inprocess
from sim.sites import make_sites


@dataclass(frozen=True)
class Listeners:
    """Who is told: stages of preparation, the server's events, a site's local steps, and what ingest left out."""

    stage: Callable[[str, int, int], None] = lambda name, done, total: None
    event: Callable[[Event], None] = lambda event: None
    step: Callable[[str, int], None] = lambda site, step: None
    note: Callable[[str], None] = lambda text: None


SILENT = Listeners()
CLAIM = "simulation.yaml"


def simulate(
    config: SimulatedExperiment,
    out: Path,
    *,
    data: Path | None = None,
    engine: Engine = DEFAULT_ENGINE,
    listeners: Listeners = SILENT,
    models: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Make the hospitals and federate them, all below `out`; returns metrics.json.

    Args:
        models: the earlier model that the experiment starts from, by its fingerprint.

    Raises:
        MamaError: a mistake in data or configuration, or too few sites; what is done is kept.
    """
    claim = out / CLAIM
    refuse_foreign(out, (CLAIM,), before=("hospitals", "hospitals.json", "sites", "lock"))
    require_possible(config)
    with at_work_in(out):
        refuse_another(claim, config, "another simulation")
        sites = make_sites(config, out, data, listeners.stage)
        # Not earlier: a mistake in the data must not claim the folder.
        write_text(claim, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        for name, (_, report) in sites.items():
            for line in report.remarks():
                listeners.note(f"site {name}: {line}")
        files = [path for path, _ in sites.values()]
        if config.init_from:
            for path in files:  # the person at this machine is every hospital's
                Approvals(load_site(path)).approve(config.experiment().hash())
        return federate(
            config.experiment(), files, out, engine=engine, listeners=listeners, models=models
        )


def federate(
    experiment: Experiment,
    site_files: list[Path],
    out: Path,
    *,
    engine: Engine = DEFAULT_ENGINE,
    listeners: Listeners = SILENT,
    models: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Run one federation in `out`, or go on where it was stopped; one site alone is local training.

    A run that has ended with all its reports is left as it is.

    Raises:
        MamaError: a mistake in data or configuration, or too few sites; what is done is kept.
    """
    pages = {path: out / "sites" / path.parent.name / "site_report.html" for path in site_files}
    if metrics := _ended(out, experiment, pages.values()):
        listeners.note("this run has ended; nothing is done again")
        return metrics
    model = build_model(experiment)
    start_from(model, experiment, models or {})
    initial = initial_arrays(model, experiment.federation)
    folder = RunFolder.create(out, experiment, initial, describe(model))
    try:
        run_engine(engine, folder, site_files, listeners)
    finally:
        if (out / METRICS).exists():
            write_report(out)
    end = folder.latest()
    trained, _ = split(end.arrays)
    put_trained(model, trained, experiment.federation.local)
    save_final(out / "final", model, experiment)
    for path, page in pages.items():
        write_site_report(load_site(path), out / "final", page, end.run)
    return folder.metrics() or {}


def run_engine(
    engine: Engine, folder: RunFolder, site_files: list[Path], listeners: Listeners
) -> None:
    """Run the same ServerApp and ClientApp in this process, on Flower's simulation engine, or as a deployment."""
    if engine == "deployment":
        from sim.deployment import run_deployment

        return run_deployment(folder, site_files, listeners.event)
    server_app = make_server_app(listeners.event)
    settings: dict[str, str | int] = {
        "out": str(folder.path.resolve()),
        "expected-sites": len(site_files),
    }
    if engine == "inprocess":
        client_app = make_client_app(listeners.step)
        run_inprocess(server_app, client_app, site_files, settings | {"sites-at-once": 1})
    else:
        from sim.flower import PlacedClientApp, processors, run_flower

        settings |= {"sites-at-once": processors()}
        run_flower(server_app, PlacedClientApp(site_files), len(site_files), settings)


def _ended(out: Path, experiment: Experiment, pages: Iterable[Path]) -> dict[str, Any]:
    """The outcome of a run that came to its end, else nothing; a damaged one is made anew."""
    parts = [out / METRICS, out / "report.html", out / "final" / "model.safetensors", *pages]
    if not all(part.exists() for part in parts) or RunFolder(out).experiment() != experiment:
        return {}
    metrics = read_if_whole(out / METRICS)
    return metrics if metrics.get("status") == "finished" else {}
