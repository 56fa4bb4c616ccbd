"""The simulated hospitals as sites: each has its data, site file, secret and ingested dataset."""

import hashlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import yaml

from client.bounds import broken
from client.prepare import prepare
from client.sitefile import PolicyConfig, load_site
from mama.config import Experiment
from mama.data.ingest import IngestReport
from mama.errors import ConfigError, DataError
from mama.files import write_bytes, write_text
from sim.config import SimulatedExperiment, SyntheticHospitals
from sim.dealing import deal_mias
from sim.hospitals import make_hospitals
from sim.keys import introduce
from sim.skew import site_specs

Progress = Callable[[str, int, int], None]


def make_sites(
    config: SimulatedExperiment, out: Path, data: Path | None, progress: Progress
) -> dict[str, tuple[Path, IngestReport]]:
    """Make or reuse all sites of a run below `out`; returns site files and what ingest found, by name.

    Args:
        data: the shared dataset, for simulations that deal one out.
        progress: told of each stage: its name, done, total.

    Raises:
        DataError: the shared dataset is missing or damaged, or a site has no study.
        ConfigError: `data` is missing or not wanted.
    """
    simulation = config.simulation
    raw = out / "hospitals"
    if isinstance(simulation, SyntheticHospitals):
        if data is not None:
            raise ConfigError(
                f"the simulation {config.name} makes its hospitals' data itself",
                where=f"--data {data}",
                fix="Leave it out, or take configs/mias.yaml for films of your own",
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
                fix="Give the folder that holds png/ and labels",
            )
        names = deal_mias(data, raw, simulation.sites, config.seed)
        adapter, fraction = simulation.source, simulation.test_fraction
        # Public films, too few for larger cells.
        policy = policy_for(config, 1).model_copy(update={"minimum_cell": 1})
    sites = {}
    for name in sorted(names):
        path = out / "sites" / name / "site.yaml"
        _write_site(path, name, raw / name, adapter, fraction, policy, config.seed)
        try:
            report = prepare(
                load_site(path),
                long_side=max(config.image.size),
                progress=partial(progress, f"ingest {name}"),
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
    """The policy of hospitals that have read the experiment and agree to it: their patients are synthetic or public.

    It is the default one but for what the experiment needs beyond it, and for the losses, which the report draws.
    """
    defaults = PolicyConfig()
    batch = min(patients, experiment.optimiser.batch_size)
    drawn = min(patients // batch, experiment.federation.local_steps) * batch
    return PolicyConfig(
        metrics=["loss", *defaults.metrics],
        allow=broken(experiment),
        min_patients_step=min(defaults.min_patients_step, batch),
        min_patients_update=min(defaults.min_patients_update, drawn),
    )


def _write_site(
    path: Path,
    name: str,
    source: Path,
    adapter: str,
    fraction: float,
    policy: PolicyConfig,
    seed: int,
) -> None:
    """A site file as a hospital would have it; only here the secret follows from the seed, and can be made again.

    One that is there is the hospital's, who may have changed its budget or policy: only where the data lie is set,
    as the run's folder may have moved.
    """
    secret = path.parent / "secret.key"
    if not secret.exists():
        write_bytes(secret, hashlib.sha256(f"{seed}/{name}".encode()).digest(), private=True)
    if path.exists():
        load_site(path)  # says in one line what is wrong with it
        kept = yaml.safe_load(path.read_text())
        if kept["data"]["source"] != str(source.resolve()):
            kept["data"]["source"] = str(source.resolve())
            write_text(path, yaml.safe_dump(kept, sort_keys=False))
        return
    settings = {
        "site": name,
        "data": {
            "source": str(source.resolve()),
            "adapter": adapter,
            "dataset": "dataset",
            "test_fraction": fraction,
        },
        "state": "state",
        "secret": "secret.key",
        "policy": policy.model_dump(),
    }
    write_text(path, yaml.safe_dump(settings, sort_keys=False))
