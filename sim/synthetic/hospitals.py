"""Synthetic hospitals on disk, as a site's engineer would find them before ingest.

    <site>/dicom/<patient>/<n>.dcm  four mammograms per study, in the style of the vendor
    <site>/reports.csv              study, report, density, suspicious_left/_right, split
    <site>/truth.json               density and lesion boxes by image, for evaluation only
    complete.json                   written last: the parameters of the generation

A study depends only on the seed, its site and its number, not on the number of processes. Training
studies are skewed by site in density and cancer prevalence; test studies are not, so that a model
gains nothing from recognising the vendor.
"""

import csv
import io
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mama.system.files import private_folder, write_json, write_text
from mama.system.processes import worker_pool
from mama.system.sealed import read_if_whole, write_sealed
from sim.synthetic.phantom import SIDES, Density, Phantom, Side, make_phantom
from sim.synthetic.reports import Style, write_report
from sim.synthetic.vendors import VENDORS, Vendor, uid, write_mammogram

# Row of reports.csv and ground truth of a study.
Made = tuple[dict[str, Any], dict[str, Any]]
Split = Literal["train", "test"]
DENSITIES: tuple[Density, ...] = ("A", "B", "C", "D")
TEST_DENSITY = (0.25, 0.25, 0.25, 0.25)
TEST_SUSPICIOUS = 0.28
COMPLETE = "complete.json"
COLUMNS = ("study", "report", "density", "suspicious_left", "suspicious_right", "split")


@dataclass(frozen=True)
class SiteSpec:
    """Hospital: equipment, reporting style and patient population.

    `density` are the shares of A to D among training studies, `suspicious` is the share of training
    breasts with a suspicious finding.
    """

    name: str
    vendor: Vendor
    style: Style
    density: tuple[float, float, float, float]
    suspicious: float


SITES: tuple[SiteSpec, ...] = (
    SiteSpec("alder", VENDORS["lumen"], "telegraphic", (0.35, 0.30, 0.20, 0.15), 0.28),
    SiteSpec("birch", VENDORS["orbis"], "prose", (0.20, 0.25, 0.25, 0.30), 0.36),
    SiteSpec("cedar", VENDORS["vanta"], "structured", (0.15, 0.20, 0.30, 0.35), 0.44),
)


@dataclass(frozen=True)
class Order:
    """Specification of one study to be generated."""

    seed: int
    site: SiteSpec
    number: int
    split: Split
    density: Density
    suspicious: dict[Side, bool]


def make_hospitals(  # noqa: PLR0913  (keywords)
    folder: Path,
    *,
    seed: int,
    train_studies: int = 100,
    test_studies: int = 70,
    sites: Sequence[SiteSpec] = SITES,
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write the hospitals to `folder`, one subfolder per site, unless they already exist.

    An incomplete or different earlier generation in `folder` is removed and repeated.

    Args:
        folder: the folder of all sites.
        seed: seed of all random choices.
        train_studies: training studies per site.
        test_studies: test studies per site.
        sites: the hospitals.
        processes: worker processes; the files do not depend on it.
        progress: called with (studies done, studies in total).
    """
    recipe = json.loads(
        json.dumps(
            {
                "seed": seed,
                "train_studies": train_studies,
                "test_studies": test_studies,
                "sites": [asdict(site) for site in sites],
            }
        )
    )
    marker = folder / COMPLETE
    if read_if_whole(marker) == recipe:
        return
    marker.unlink(missing_ok=True)
    for site in sites:
        shutil.rmtree(folder / site.name, ignore_errors=True)

    orders = [
        order
        for index, site in enumerate(sites)
        for order in _orders(seed, index, site, train_studies, test_studies)
    ]
    made: dict[str, list[Made]] = {site.name: [] for site in sites}
    for done, (order, result) in enumerate(
        zip(orders, _run(partial(_make_study, folder), orders, processes), strict=True), start=1
    ):
        made[order.site.name].append(result)
        if progress:
            progress(done, len(orders))
    for name, studies in made.items():
        write_text(folder / name / "reports.csv", _table([row for row, _ in studies]))
        truth = {row["study"]: study for row, study in studies}
        write_json(folder / name / "truth.json", {"studies": truth})
    write_sealed(marker, recipe)


def _orders(
    seed: int, index: int, site: SiteSpec, train_studies: int, test_studies: int
) -> Iterator[Order]:
    """Yield the site's studies with labels in exact proportions, assigned at random."""
    rng = np.random.default_rng((seed, index))
    number = 0
    plans: tuple[tuple[Split, int, Sequence[float], float], ...] = (
        ("train", train_studies, site.density, site.suspicious),
        ("test", test_studies, TEST_DENSITY, TEST_SUSPICIOUS),
    )
    for split, studies, density, suspicious in plans:
        densities = shares(rng, density, studies)
        breasts = shares(rng, (1 - suspicious, suspicious), 2 * studies).reshape(studies, 2)
        for category, flags in zip(densities, breasts, strict=True):
            number += 1
            sides = {side: bool(flag) for side, flag in zip(SIDES, flags, strict=True)}
            yield Order(seed, site, number, split, DENSITIES[category], sides)


def shares(rng: np.random.Generator, parts: Sequence[float], count: int) -> np.ndarray:
    """Return `count` class indices in random order, proportional to `parts` (largest remainder)."""
    exact = np.asarray(parts) * count
    whole = np.floor(exact).astype(int)
    for part in np.argsort(whole - exact, kind="stable")[: count - whole.sum()]:
        whole[part] += 1
    return rng.permutation(np.repeat(np.arange(len(parts)), whole))


def _run(make: Callable[[Order], Made], orders: Sequence[Order], processes: int) -> Iterator[Made]:
    if processes <= 1:
        yield from map(make, orders)
        return
    # Forking a process whose torch threads hold locks can hang, so workers are spawned.
    with worker_pool(processes) as pool:
        yield from pool.map(make, orders, chunksize=8)


def _make_study(folder: Path, order: Order) -> Made:
    """Write one study's images; return its row of reports.csv and its truth."""
    name = f"{order.site.name.upper()}-{order.number:04d}"
    rng = np.random.default_rng((order.seed, *name.encode()))
    phantom = make_phantom(rng, order.density, order.suspicious)
    study = uid(order.seed, name)
    images = {}
    for number, image in enumerate(phantom.images, start=1):
        path = folder / order.site.name / "dicom" / name / f"{number}.dcm"
        private_folder(path.parent)
        instance = uid(order.seed, name, str(number))
        write_mammogram(
            path,
            image,
            order.site.vendor,
            rng,
            patient=name,
            study=study,
            series=uid(order.seed, name, "series"),
            instance=instance,
        )
        images[instance] = {
            "laterality": image.laterality,
            "view": image.view,
            "lesions": [{"kind": lesion.kind, "box": lesion.box} for lesion in image.lesions],
        }
    row = {
        "study": study,
        "report": write_report(rng, phantom, order.site.style),
        "density": phantom.density,
        "suspicious_left": int(_suspicious(phantom, "L")),
        "suspicious_right": int(_suspicious(phantom, "R")),
        "split": order.split,
    }
    return row, {"density": phantom.density, "images": images}


def _suspicious(phantom: Phantom, side: Side) -> bool:
    return any(finding.suspicious for finding in phantom.findings[side])


def _table(rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
