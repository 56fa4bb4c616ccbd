"""Simulated federation, from configuration to reports."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from client.app import make_app as make_client_app
from client.policy.approval import Approvals
from client.report.page import write_site_report
from client.site.config import load_site
from mama.config import Experiment
from mama.config.output_folder import refuse_another, refuse_foreign
from mama.exchange.fingerprint import describe
from mama.exchange.tensors import put_trained
from mama.exchange.update import Update, initial_arrays
from mama.final.saved import save_final
from mama.model import build_model
from mama.privacy.plan import require_possible
from mama.system.files import write_text
from mama.system.locks import at_work_in
from mama.system.sealed import read_if_whole
from mama.training.warm_start import start_from
from server.app import make_app as make_server_app
from server.report.page import write_report
from server.run.events import Event
from server.run.folder import METRICS, RunFolder
from sim.config import DEFAULT_ENGINE, Engine, SimulatedExperiment
from sim.dealing.source import CLAIM as DEALT
from sim.dealing.source import POOL
from sim.engines.inprocess import run_inprocess
from sim.sites import make_sites


@dataclass(frozen=True)
class Callbacks:
    """Callbacks of a simulation.

    Attributes:
        stage: called with the name of a preparation stage, the parts done and their total.
        event: called with each event of the server.
        step: called with a site and its local step.
        note: called with remarks, such as data skipped by ingest.
    """

    stage: Callable[[str, int, int], None] = lambda name, done, total: None
    event: Callable[[Event], None] = lambda event: None
    step: Callable[[str, int], None] = lambda site, step: None
    note: Callable[[str], None] = lambda text: None


NO_CALLBACKS = Callbacks()
CLAIM = "simulation.yaml"


def simulate(
    config: SimulatedExperiment,
    out: Path,
    *,
    data: Path | None = None,
    engine: Engine = DEFAULT_ENGINE,
    callbacks: Callbacks = NO_CALLBACKS,
    models: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Create the hospitals and run their federation, all below `out`.

    Args:
        config: the experiment with its simulation.
        out: folder of the run.
        data: the dataset or raw folder, for simulations that deal one.
        engine: the engine that runs the sites.
        callbacks: observers of the run.
        models: the earlier model of `init_from`, by its fingerprint.

    Returns:
        The contents of metrics.json.

    Raises:
        MamaError: an error in data or configuration, or too few sites; completed work is kept.
    """
    claim = out / CLAIM
    refuse_foreign(out, (CLAIM,), before=("hospitals", POOL, DEALT, "sites", "lock"))
    require_possible(config)
    with at_work_in(out):
        refuse_another(claim, config, "another simulation")
        sites = make_sites(config, out, data, callbacks.stage)
        # Written only now, since an error in the data must not claim the folder.
        write_text(claim, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False))
        for line in sites.remarks:
            callbacks.note(line)
        files = list(sites.files.values())
        if config.init_from:
            for path in files:  # the user of this machine acts for every hospital
                Approvals(load_site(path)).approve(config.experiment().hash())
        return federate(
            config.experiment(), files, out, engine=engine, callbacks=callbacks, models=models
        )


def federate(
    experiment: Experiment,
    site_files: list[Path],
    out: Path,
    *,
    engine: Engine = DEFAULT_ENGINE,
    callbacks: Callbacks = NO_CALLBACKS,
    models: Mapping[str, Path] | None = None,
) -> dict[str, Any]:
    """Run a federation in `out`, or resume it; with a single site it is local training.

    A finished run with all its reports is left unchanged.

    Raises:
        MamaError: an error in data or configuration, or too few sites; completed work is kept.
    """
    pages = {path: out / "sites" / path.parent.name / "site_report.html" for path in site_files}
    if metrics := _ended(out, experiment, pages.values()):
        callbacks.note("this run is finished; nothing to do")
        return metrics
    model = build_model(experiment)
    start_from(model, experiment, models or {})
    initial = initial_arrays(model, experiment.strategy)
    folder = RunFolder.create(out, experiment, initial, describe(model))
    try:
        run_engine(engine, folder, site_files, callbacks)
    finally:
        if (out / METRICS).exists():
            write_report(out)
    end = folder.latest()
    put_trained(model, Update.of(end.arrays).model, experiment.strategy.local)
    save_final(out / "final", model, experiment, share_weights=not folder.history().licensed)
    for path, page in pages.items():
        write_site_report(load_site(path), out, page)
    return folder.metrics() or {}


def run_engine(
    engine: Engine, folder: RunFolder, site_files: list[Path], callbacks: Callbacks
) -> None:
    """Run the apps in this process, on Flower's simulation engine, or as a deployment."""
    if engine == "deployment":
        from sim.engines.deployment import run_deployment

        return run_deployment(folder, site_files, callbacks.event)
    server_app = make_server_app(callbacks.event)
    settings: dict[str, str | int] = {
        "out": str(folder.path.resolve()),
        "expected-sites": len(site_files),
    }
    if engine == "inprocess":
        client_app = make_client_app(callbacks.step)
        run_inprocess(server_app, client_app, site_files, settings | {"sites-at-once": 1})
    else:
        from sim.engines.flower import PlacedClientApp, processors, run_flower

        settings |= {"sites-at-once": processors()}
        run_flower(server_app, PlacedClientApp(site_files), len(site_files), settings)


def _ended(out: Path, experiment: Experiment, pages: Iterable[Path]) -> dict[str, Any]:
    """Return the metrics of a finished run, otherwise nothing; damaged ones are recomputed."""
    parts = [out / METRICS, out / "report.html", out / "final" / "model.safetensors", *pages]
    if not all(part.exists() for part in parts) or RunFolder(out).experiment() != experiment:
        return {}
    metrics = read_if_whole(out / METRICS)
    return metrics if metrics.get("status") == "finished" else {}
