"""Withdrawn patients are in nothing a site reads, shows or sends: all access uses the list.

The pictures of those who withdrew are removed and their reports are a mark, so that whatever reads
one of them fails.
"""

import ast
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from client.cli import main
from client.handlers import answer
from client.policy.patients import review_patients
from client.policy.private_terms import review_private
from client.preflight.data import check_data
from client.preflight.experiment import check_experiment
from client.report.page import write_site_report
from client.site.config import SiteFile, load_site
from client.site.dataset import dataset_of
from client.training import tasks
from mama.config import Experiment
from mama.data.adapters import find
from mama.data.ingest.ids import ids_of
from mama.data.ingest.report import WITH_REMARKS
from mama.data.manifest import Dataset, write_manifest
from mama.data.pairs import StudyPairs
from mama.data.studies import Sentence
from mama.errors import DataError
from mama.exchange.codecs.coding import encode
from mama.exchange.metrics import TrainingMetrics
from mama.exchange.tensors import trained_arrays
from mama.final.saved import save_final
from mama.model import build_model

MARK = "Zzyzx withdrew."
ROOT = Path(__file__).parents[3]
OPENERS = {"Dataset", "read_manifest", "evaluate_whole"}


@pytest.fixture
def site(site_file: Path, edit: Callable[..., Path]) -> SiteFile:
    """A site of 16 studies, six of which are withdrawn: by patient and by study, of both splits."""
    site = load_site(site_file)
    raw = find(site.data.adapter)(site.data.source).studies
    dataset, key = Dataset(site.data.dataset), site.read_secret()
    of_train = {s.id for s in dataset.studies("train")}
    train = [s for s in raw if ids_of(key, s.study) & of_train]
    test = [s for s in raw if not ids_of(key, s.study) & of_train]
    names = [train[0].patient, train[1].study, train[2].patient]
    names += [test[0].patient, test[1].study, test[2].patient]
    gone = {identity for name in names for identity in ids_of(key, name)}
    studies = []
    for study in dataset.manifest.studies:
        if study.id in gone or study.patient in gone:
            study = study.model_copy(
                update={"sentences": (Sentence(text=MARK, side="both", section=None),)}
            )
            for image in study.images:
                dataset.image_path(image).unlink()
        studies.append(study)
    write_manifest(dataset.folder, dataset.manifest.model_copy(update={"studies": tuple(studies)}))
    (site_file.parent / "withdrawn.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    data: dict[str, Any] = {
        "source": "source",
        "dataset": "dataset",
        "withdrawn": "withdrawn.txt",
    }
    data["source"], data["adapter"] = str(site.data.source), site.data.adapter
    return load_site(edit(data=data))


def gone(site: SiteFile) -> list[str]:
    """The ids of the studies that are left out."""
    kept = {study.id for study in dataset_of(site).manifest.studies}
    return [s.id for s in Dataset(site.data.dataset).manifest.studies if s.id not in kept]


def test_the_site_file_leaves_out_what_it_lists(site: SiteFile) -> None:
    assert len(gone(site)) == 6
    assert len(dataset_of(site).studies("train")) == 5
    assert len(dataset_of(site).studies("test")) == 5


def test_the_sites_own_report(site: SiteFile, experiment: Experiment, tmp_path: Path) -> None:
    final = tmp_path / "final"
    save_final(final, build_model(experiment), experiment)
    page = write_site_report(site, final, tmp_path / "r.html").read_text(encoding="utf-8")
    assert "Zzyzx" not in page
    assert not any(identity in page for identity in gone(site))
    assert page.count('<img src="data:') == 5
    row = page.split('<th scope="row">studies</th>')[1].split("</tr>")[0]
    assert row.count(">5<") == 2


def test_the_check(site: SiteFile, experiment: Experiment) -> None:
    found = {check.name: check for check in check_data(site)}
    assert found["studies"].found == "5 training studies, 5 test studies"
    assert found["images"].verdict == "PASS"
    assert found["labels"].found.startswith("density known for 5 test studies")
    lines = [*found.values(), *check_experiment(site, experiment)]
    assert not any("Zzyzx" in str(line) for line in lines)
    assert {line.verdict for line in lines if line.name == "one step"} == {"PASS"}


def test_what_leaves(site: SiteFile, experiment: Experiment, make_task: Callable) -> None:
    payload = encode(trained_arrays(build_model(experiment)))
    for kind in ("describe", "train", "evaluate"):
        answered, _ = answer(site, make_task(kind).encode(), payload)
        assert answered.status == "ok", answered
    trained = answer(site, make_task("train").encode(), payload)[0].training
    assert isinstance(trained, TrainingMetrics)
    assert (trained.studies, trained.patients) == (5, 5)
    said = answer(site, make_task("evaluate").encode(), payload)[0].evaluation
    assert said is not None
    units = [
        recall.units
        for counts in said.counts["zero_shot"].values()
        for recall in counts.recalls.values()
        if recall
    ]
    # Density counts studies, lesions both breasts of one.
    assert sum(units) <= 5 + 2 * 5


def test_policy_words_and_slots(site: SiteFile, experiment: Experiment) -> None:
    pairs = StudyPairs(dataset_of(site), experiment, stream=site.site)
    assert {finding.requested for finding in review_patients(site, pairs)} <= {"4", "5"}
    assert "Zzyzx" not in str(tasks.remark_on_reports(site, experiment))
    private = experiment.model_copy(
        update={
            "privacy": experiment.privacy.model_copy(
                update={"mode": "patient", "slots": 16, "group_size": 2}
            )
        }
    )
    slots = [f.requested for f in review_private(site, private) if f.rule == "privacy.slots"]
    assert slots[0].startswith("5 of 16 slots filled")


def test_ingest_tells_how_many_are_left_out(site: SiteFile, command: Callable) -> None:
    ended = command(main, "ingest", site.secret.parent / "site.yaml", "--long-side", 96)
    assert ended.code in (0, WITH_REMARKS), ended.err
    assert "withdrawn: 6 studies excluded (counted above)" in ended.out


def test_without_the_list_all_of_it_fails(site: SiteFile, experiment: Experiment) -> None:
    """The marks and the removed pictures would be found."""
    assert site.data.withdrawn
    site.data.withdrawn.write_text("")
    assert MARK in {s for study in dataset_of(site).manifest.studies for s in study.texts()}
    with pytest.raises(DataError, match="cached image is missing"):
        list(check_data(site))


def test_nothing_in_client_names_what_opens_a_dataset() -> None:
    """The import rules hold of modules; a name can also come by way of another module."""
    found = set()
    for path in (ROOT / "client").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = {getattr(node, "id", None), getattr(node, "attr", None)}
            if isinstance(node, ast.ImportFrom):
                names |= {name.name for name in node.names}
            if names & OPENERS:
                found.add(path.name)
    assert found == {"dataset.py"}


def test_the_import_rule_is_of_all_of_client() -> None:
    rules = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = rules["tool"]["importlinter"]["contracts"]
    (rule,) = [c for c in contracts if "mama.data.manifest" in c.get("forbidden_modules", [])]
    assert rule["source_modules"] == ["client"]
    excused = {line.split(" -> ")[0] for line in rule["ignore_imports"]}
    assert excused == {"client.site.dataset", "client.site.ingest"}
