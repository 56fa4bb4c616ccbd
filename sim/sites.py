"""Simulated hospitals as sites, each with its data, site file, secret and ingested dataset."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from client.policy.bounds import broken
from client.site.config import PolicyConfig, load_site
from client.site.ingest import prepare
from mama.config import Experiment
from mama.config.load import read_yaml
from mama.errors import ConfigError
from mama.system.files import write_bytes, write_text
from sim.config import DealtDataset, SimulatedExperiment, SyntheticHospitals
from sim.dealing.dataset import write_dataset
from sim.dealing.owners import deal
from sim.dealing.source import claim, open_source
from sim.engines.keys import introduce
from sim.synthetic.hospitals import make_hospitals
from sim.synthetic.skew import site_specs

Progress = Callable[[str, int, int], None]
LICENSED = (
    "the licence of this data lets no weights be shared: the simulated hospitals agree to share "
    "them on this machine, and final/README.md states the licence"
)


class Sites(NamedTuple):
    """Site files by site name, and remarks on their data."""

    files: dict[str, Path]
    remarks: list[str]


def make_sites(
    config: SimulatedExperiment, out: Path, data: Path | None, progress: Progress
) -> Sites:
    """Create or reuse all sites of a run below `out`.

    Args:
        config: the experiment with its simulation.
        out: folder of the run.
        data: the dataset or raw folder, for simulations that deal one.
        progress: called with the name of a stage, the parts done and their total.

    Raises:
        DataError: the dataset is missing, damaged or too small, or a site has no study.
        ConfigError: `data` is missing, or given for synthetic hospitals.
    """
    simulation = config.simulation
    if isinstance(simulation, SyntheticHospitals):
        sites = _synthetic(config, simulation, out, data, progress)
    else:
        sites = _dealt(config, simulation, out, data, progress)
    if config.privacy.secure:
        introduce(sites.files)
    return sites


def _synthetic(
    config: SimulatedExperiment,
    simulation: SyntheticHospitals,
    out: Path,
    data: Path | None,
    progress: Progress,
) -> Sites:
    """Draw the hospitals' images, and ingest them at each site."""
    if data is not None:
        raise ConfigError(
            f"the simulation {config.name} generates the hospitals' data itself",
            where=f"--data {data}",
            fix="Leave it out, or use configs/own_data.yaml with your own data",
        )
    raw = out / "hospitals"
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
    policy = policy_for(config, simulation.train_studies)
    sites = Sites({}, [])
    for name in sorted(spec.name for spec in specs):
        place = {"source": str((raw / name).resolve()), "adapter": "dicom_folder"}
        path = _write_site(out, name, place, policy, config.seed)
        report = prepare(
            load_site(path), long_side=max(config.image.size), progress=_named(progress, name)
        )
        sites.files[name] = path
        sites.remarks.extend(f"site {name}: {line}" for line in report.remarks())
    return sites


def _dealt(
    config: SimulatedExperiment,
    simulation: DealtDataset,
    out: Path,
    data: Path | None,
    progress: Progress,
) -> Sites:
    """Deal one dataset's patients; nothing is decoded at the sites."""
    dataset, report = open_source(config, simulation, out, data, progress)
    dealt = deal(dataset.manifest.studies, simulation.sites, simulation.deal, config.seed)
    claim(out, dataset)
    sites = Sites({}, [f"data: {line}" for line in (report.remarks() if report else [])])
    share = dataset.manifest.share_weights
    if not share:
        sites.remarks.append(LICENSED)
    # The user of this machine has all the data, and the hospitals may be small.
    changes = {"minimum_cell": 1, "share_licensed_weights": not share}
    policy = policy_for(config, 1).model_copy(update=changes)
    place = {"source": str(dataset.folder.resolve()), "adapter": dataset.manifest.adapter}
    for number, studies in enumerate(dealt):
        name = f"site-{number + 1}"
        path = _write_site(out, name, place, policy, config.seed)
        site = load_site(path)
        write_dataset(site.data.dataset, dataset, studies, site.read_secret())
        sites.files[name] = path
        progress("dealing patients", number + 1, simulation.sites)
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
    out: Path, name: str, data: dict[str, Any], policy: PolicyConfig, seed: int
) -> Path:
    """Write a site file like a hospital's, with a secret derived from the seed for repeatability.

    An existing file may have a changed budget or policy and is kept; only the location of the data
    is updated, since the run's folder may have moved.
    """
    path = out / "sites" / name / "site.yaml"
    secret = path.parent / "secret.key"
    if not secret.exists():
        write_bytes(secret, hashlib.sha256(f"{seed}/{name}".encode()).digest(), private=True)
    if path.exists():
        load_site(path)  # reports an invalid file
        kept = read_yaml(path)
        if kept["data"]["source"] != data["source"]:
            kept["data"]["source"] = data["source"]
            write_text(path, yaml.safe_dump(kept, sort_keys=False))
        return path
    settings = {
        "site": name,
        "data": data | {"dataset": "dataset"},
        "state": "state",
        "secret": "secret.key",
        "policy": policy.model_dump(),
    }
    write_text(path, yaml.safe_dump(settings, sort_keys=False))
    return path
