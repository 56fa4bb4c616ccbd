"""Dataset that a simulation deals: the ingested one of --data, or a raw folder, ingested here."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from mama.data.ingest.report import IngestReport
from mama.data.ingest.run import ingest
from mama.data.manifest import MANIFEST, Dataset
from mama.errors import ConfigError, DataError
from mama.system.files import sha256_of, write_json
from sim.config import DealtDataset, SimulatedExperiment

POOL, CLAIM = "pool", "dealt.json"
WORKERS = len(os.sched_getaffinity(0))  # processes that decode a raw folder


def open_source(
    config: SimulatedExperiment,
    simulation: DealtDataset,
    out: Path,
    data: Path | None,
    progress: Callable[[str, int, int], None],
) -> tuple[Dataset, IngestReport | None]:
    """Return the dataset to deal, and the report of its ingest if it was raw.

    A raw folder is ingested into the run's folder with a key made of the seed, so that a run can be
    repeated exactly. An ingested dataset keeps its splits.

    Args:
        config: the experiment.
        simulation: its section.
        out: folder of the run.
        data: the dataset or raw folder.
        progress: called with the name of a stage, the parts done and their total.

    Raises:
        ConfigError: `data` is missing.
        DataError: it is no dataset and does not have the layout of `simulation.source`, its images
            are too small, or the run's folder was made of other data.
    """
    if data is None:
        raise ConfigError(
            f"the simulation {config.name} needs a dataset",
            where="--data",
            fix=f"Give an ingested dataset, or a folder with the layout of {simulation.source}",
        )
    if not data.is_dir():
        raise DataError("no such folder", where=f"--data {data}", fix="Check the path of the data")
    report = None
    if (data / MANIFEST).is_file():
        dataset = Dataset(data)
        dataset.require(config.image.size)
    else:
        report = _ingested(config, simulation, out, data, progress)
        dataset = Dataset(out / POOL)
    _refuse_another(out, dataset)
    return dataset, report


def _ingested(
    config: SimulatedExperiment,
    simulation: DealtDataset,
    out: Path,
    data: Path,
    progress: Callable[[str, int, int], None],
) -> IngestReport:
    try:
        return ingest(
            data,
            out / POOL,
            adapter=simulation.source,
            secret=hashlib.sha256(f"{config.seed}/{POOL}".encode()).digest(),
            long_side=max(config.image.size),
            test_fraction=simulation.test_fraction,
            workers=WORKERS,
            progress=lambda stage, done, total: progress(f"data: {stage}", done, total),
        )
    except DataError as error:
        if error.where != str(data):
            raise
        raise DataError(
            f"holds no ingested dataset, and read as {simulation.source}: {error.what}",
            where=error.where,
            fix=f"{error.fix}; simulation.source names the layout",
        ) from None


def claim(out: Path, dataset: Dataset) -> None:
    """Record the dataset that the run's folder is made of."""
    write_json(out / CLAIM, _digest(dataset))


def _refuse_another(out: Path, dataset: Dataset) -> None:
    """Refuse another dataset than before: a model may have trained on what it would test."""
    known = out / CLAIM
    if known.exists() and known.read_text(encoding="utf-8") != f'"{_digest(dataset)}"\n':
        raise DataError(
            "was created from another dataset", where=str(out), fix="Give another --out"
        )


def _digest(dataset: Dataset) -> str:
    return sha256_of(dataset.folder / MANIFEST)
