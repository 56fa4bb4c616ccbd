"""Statistics of a site's data: what leaves, when, and that repeated requests tell nothing more."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.handlers import answer
from client.policy.statistics import categories_of, count, statistics_of, vendor_of
from client.privacy.sent import SentRecord, answers_of
from client.site.config import load_site
from mama.config import Experiment
from mama.data.manifest import read_manifest, write_manifest
from mama.data.studies import Image, Labels, Study
from mama.exchange.metrics import DataStatistics
from mama.exchange.protocol import Task

MINIMUM = 2


def study(patient: int, number: int = 0, vendor: str = "SIEMENS", **values: Any) -> Study:
    labels = Labels(**{key: values.pop(key) for key in ("density", "birads") if key in values})
    image = Image(id="i", laterality="L", view="CC", vendor=vendor, height=9, width=9)
    return Study(
        id=f"{patient}-{number}",
        patient=f"p{patient}",
        split="train",
        images=(image, image.model_copy(update={"view": values.pop("view", "MLO")})),
        sentences=(),
        labels=labels,
        **values,
    )


@pytest.fixture
def opened(edit: Callable[..., Path], site_file: Path) -> Path:
    """A site with 8 training patients that releases statistics."""
    return edit(policy={"metrics": ["zero_shot", "statistics"], "minimum_cell": MINIMUM})


def asked(file: Path, experiment: Experiment) -> DataStatistics | None:
    return statistics_of(load_site(file), experiment)


def relabel(file: Path, density: str, patients: int) -> None:
    """Give some of the training patients another density."""
    folder = load_site(file).data.dataset
    manifest = read_manifest(folder)
    train = sorted({one.patient for one in manifest.studies if one.split == "train"})[:patients]
    changed = Labels(density=density)
    studies = [
        one.model_copy(update={"labels": changed}) if one.patient in train else one
        for one in manifest.studies
    ]
    write_manifest(folder, manifest.model_copy(update={"studies": tuple(studies)}))


def test_patients_are_counted_once_a_category_by_value() -> None:
    studies = [
        *(study(n, density="A", birads={"L": "1", "R": "4B"}, age="50-59") for n in range(10)),
        *(study(n, 1, density="B", vendor="GE MEDICAL SYSTEMS") for n in range(6)),
        *(study(n, vendor="Jane\x1b[31m Doe", view="XCCL") for n in range(10, 13)),
    ]
    found = count(categories_of(studies), len(studies), 5, b"key")
    assert found.model_dump() == {
        "minimum": 5,
        "patients": 15,  # 13
        "studies": 20,  # 19
        "tables": {
            # 10, 6 and 3 unknown: the total would give the 3 away without the 6.
            "density": {"total": 20, "cells": {"A": 10, "B": None, "unknown": None}},
            "BI-RADS": {"total": 15, "cells": {"4": None, "unknown": None}},
            "vendor": {"total": 20, "cells": {"GE": None, "Siemens": 10, "other": None}},
            "view": {"total": 25, "cells": {"CC": 15, "MLO": None, "other": None}},
            "age": {"total": 15, "cells": {"50-59": None, "unknown": None}},
        },
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("GE MEDICAL SYSTEMS", "GE"),
        ("LORAD, A Hologic Company", "Hologic"),
        ("FUJIFILM Corporation", "Fujifilm"),
        ("Sectra Imtec AB", "Philips"),
        ("IMAGE GENERATOR", "other"),
        ("Doe^Jane", "other"),
    ],
)
def test_vendors_are_those_of_the_list(text: str, name: str) -> None:
    assert vendor_of(text) == name


def test_by_default_none_leave(
    site_file: Path, edit: Callable[..., Path], experiment: Experiment, make_task: Any
) -> None:
    edit(policy={"metrics": ["zero_shot", "linear_probe"]})
    reply, tensors = answer(load_site(site_file), make_task("statistics").encode(), b"")
    assert (reply.status, reply.statistics, tensors) == ("ok", None, b"")
    assert not (load_site(site_file).privacy / "statistics.json").exists()


@pytest.mark.parametrize("privacy", [{"mode": "patient"}, {"mode": "site"}])
def test_none_leave_in_a_private_run(
    opened: Path, experiment: Experiment, privacy: dict[str, str]
) -> None:
    private = experiment.privacy.model_copy(update=privacy)
    assert asked(opened, experiment.model_copy(update={"privacy": private})) is None


def test_the_answer_and_its_record(
    opened: Path, experiment: Experiment, make_task: Callable[..., Task]
) -> None:
    site = load_site(opened)
    reply, _ = answer(site, make_task("statistics").encode(), b"")
    found = reply.statistics
    assert found
    assert (found.minimum, found.patients, found.studies) == (MINIMUM, 8, 8)
    assert found.tables["view"].cells == {"CC": 8, "MLO": 8}
    assert found.tables["vendor"].cells == {"other": 8}
    (entry,) = answers_of(SentRecord(site).read())
    assert (entry["kind"], entry["header_bytes"]) == ("statistics", len(reply.encode()))
    assert {"patients", "studies", "density", "vendor"} <= set(entry["figures"])
    kept = json.loads((site.privacy / "statistics.json").read_text())
    assert kept["answer"] == found.model_dump()


def test_the_answer_stays_until_enough_patients_have_changed(
    opened: Path, experiment: Experiment
) -> None:
    relabel(opened, "A", 8)
    first = asked(opened, experiment)
    assert first
    assert first.tables["density"].cells == {"A": 8}
    relabel(opened, "B", MINIMUM - 1)
    assert asked(opened, experiment) == first
    relabel(opened, "B", MINIMUM)
    second = asked(opened, experiment)
    assert second
    assert second.tables["density"].cells == {"A": 6, "B": 2}
    # Back by one patient at a time: the answer of that moment is not told either.
    relabel(opened, "A", 1)
    assert asked(opened, experiment) == second


def test_too_few_patients_have_none(edit: Callable[..., Path], experiment: Experiment) -> None:
    file = edit(policy={"metrics": ["statistics"], "minimum_cell": 9})
    assert asked(file, experiment) is None


def test_a_damaged_record_ends_statistics_and_nothing_else(
    opened: Path, experiment: Experiment, make_task: Callable[..., Task]
) -> None:
    site = load_site(opened)
    assert asked(opened, experiment)
    path = site.privacy / "statistics.json"
    path.write_text(path.read_text().replace('"minimum": 2', '"minimum": 1'))
    reply, _ = answer(site, make_task("statistics").encode(), b"")
    assert (reply.status, reply.statistics) == ("ok", None)
    path.unlink()
    assert asked(opened, experiment)
