"""Simulated hospitals as sites, each with its data, site file, secret and ingested dataset."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from client.policy.bounds import broken
from client.site.config import PolicyConfig, load_site
from client.site.ingest import prepare
from mama.config import Experiment
from mama.config.load import read_yaml
from mama.data.ingest.report import IngestReport
from mama.errors import ConfigError, DataError
from mama.system.files import write_bytes, write_text
from sim.config import SimulatedExperiment, SyntheticHospitals
from sim.dealing import deal_mias
from sim.engines.keys import introduce
from sim.synthetic.hospitals import make_hospitals
from sim.synthetic.skew import site_specs

Progress = Callable[[str, int, int], None]


def make_sites(
    config: SimulatedExperiment, out: Path, data: Path | None, progress: Progress
) -> dict[str, tuple[Path, IngestReport]]:
    """Create or reuse all sites of a run below `out`.

    Args:
        config: the experiment with its simulation.
        out: folder of the run.
        data: the shared dataset, for simulations that split one.
        progress: called with the name of a stage, the parts done and their total.

    Returns:
        Site file and ingest report by site name.

    Raises:
        DataError: the shared dataset is missing or damaged, or a site has no study.
        ConfigError: `data` is missing, or given for synthetic hospitals.
    """
    simulation = config.simulation
    raw = out / "hospitals"
    if isinstance(simulation, SyntheticHospitals):
        if data is not None:
            raise ConfigError(
                f"the simulation {config.name} generates the hospitals' data itself",
                where=f"--data {data}",
                fix="Leave it out, or use configs/mias.yaml with your own films",
            )
        specs = site_specs(simulation, config.seed)
        make_hospitals(
            raw,
            seed=config.seed,
            sites=specs,
            train_studies=simulation.train_studies,
            test_studies=simulation.test_studies,
            processes=2,
            progress=partial(progress, "making hospitals"),
        )
        names, adapter, fraction = [site.name for site in specs], "dicom_folder", 0.2
        policy = policy_for(config, simulation.train_studies)
    else:
        if data is None:
            raise ConfigError(
                f"the simulation {config.name} needs a dataset",
                where="--data",
                fix="Give the folder that contains png/ and labels",
            )
        names = deal_mias(data, raw, simulation.sites, config.seed)
        adapter, fraction = simulation.source, simulation.test_fraction
        # Public films, too few for larger cells.
        policy = policy_for(config, 1).model_copy(update={"minimum_cell": 1})
    sites = {}
    for name in sorted(names):
        path = out / "sites" / name / "site.yaml"
        place = {
            "source": str((raw / name).resolve()),
            "adapter": adapter,
            "test_fraction": fraction,
        }
        _write_site(path, name, place, policy, config.seed)
        try:
            report = prepare(
                load_site(path),
                long_side=max(config.image.size),
                progress=_named(progress, name),
            )
        except DataError as error:
            raise DataError(
                error.what, where=f"site {name}, {error.where}", fix=error.fix
            ) from None
        sites[name] = path, report
    if config.privacy.secure:
        introduce({name: path for name, (path, _) in sites.items()})
    return sites


def policy_for(experiment: Experiment, patients: int) -> PolicyConfig:
    """Return a policy that permits the experiment, for sites with synthetic or public patients.

    It is the default policy extended by what the experiment needs, by losses and statistics, which
    the report shows, and by exact evaluations.
    """
    defaults = PolicyConfig()
    batch = min(patients, experiment.optimiser.batch_size)
    drawn = min(patients // batch, experiment.federation.local_steps) * batch
    return PolicyConfig(
        metrics=["loss", *defaults.metrics, "statistics"],
        # Benchmarks compare exact metrics.
        label_odds=None,
        max_evaluations=100_000,
        allow=broken(experiment),
        min_patients_step=min(defaults.min_patients_step, batch),
        min_patients_update=min(defaults.min_patients_update, drawn),
    )


def _named(progress: Progress, site: str) -> Progress:
    """Return the progress of a site's ingest, told as one stage with the site's name."""

    def told(stage: str, done: int, total: int) -> None:
        if stage == "images":
            progress(f"ingest {site}", done, total)

    return told


def _write_site(
    path: Path, name: str, data: dict[str, Any], policy: PolicyConfig, seed: int
) -> None:
    """Write a site file like a hospital's, with a secret derived from the seed for repeatability.

    An existing file may have a changed budget or policy and is kept; only the location of the data
    is updated, since the run's folder may have moved.
    """
    secret = path.parent / "secret.key"
    if not secret.exists():
        write_bytes(secret, hashlib.sha256(f"{seed}/{name}".encode()).digest(), private=True)
    if path.exists():
        load_site(path)  # reports an invalid file
        kept = read_yaml(path)
        if kept["data"]["source"] != data["source"]:
            kept["data"]["source"] = data["source"]
            write_text(path, yaml.safe_dump(kept, sort_keys=False))
        return
    settings = {
        "site": name,
        "data": data | {"dataset": "dataset"},
        "state": "state",
        "secret": "secret.key",
        "policy": policy.model_dump(),
    }
    write_text(path, yaml.safe_dump(settings, sort_keys=False))
