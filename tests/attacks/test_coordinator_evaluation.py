"""A coordinator that plants models to read single labels off the counts of evaluations."""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from client.handlers import answer
from client.policy.bounds import BOUNDS
from client.policy.evaluations import Evaluations
from client.site.config import SiteFile, load_site
from client.site.dataset import dataset_of
from mama.config import Experiment
from mama.data.studies import Image, Labels, Study
from mama.evaluation.features import image_features
from mama.evaluation.masking import Mask
from mama.evaluation.predictions import units_of
from mama.evaluation.protocols.zero_shot import class_embeddings
from mama.exchange.codecs.coding import encode
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Answer, Task
from mama.exchange.tensors import trained_arrays
from mama.model import MaMA, build_model

CPU = torch.device("cpu")
OPEN = {"max_model_step": None, "min_patients_update": 1, "allow": [bound.key for bound in BOUNDS]}


@pytest.fixture
def experiment(small_config: Callable[..., Any]) -> Experiment:
    return small_config("federation.rounds=1000").experiment()


@pytest.fixture
def site_with(site_files: Callable[..., list[Path]]) -> Callable[..., SiteFile]:
    """First hospital, with a policy that accepts any model: the leak of evaluations alone."""
    path = site_files("sites")[0]

    def make(**policy: Any) -> SiteFile:
        settings = yaml.safe_load(path.read_text())
        settings["policy"] = OPEN | policy
        path.write_text(yaml.safe_dump(settings))
        return load_site(path)

    return make


class Coordinator:
    """Sends models that score one breast above all others; it is even given the images."""

    def __init__(self, site: SiteFile, experiment: Experiment):
        self.site, self.experiment = site, experiment
        model = build_model(experiment)
        test = dataset_of(site).studies("test")
        self.units = units_of(test, "suspicious")
        self.pooled = torch.tensor(
            image_features(model, dataset_of(site), test, CPU).pooled, dtype=torch.float64
        )
        prompts = experiment.evaluation.suspicious
        no, yes = class_embeddings(model, {name: prompts[name] for name in ("no", "yes")}, CPU)
        self.towards_yes = (yes - no).double()

    def model_for(self, target: int, scale: float = 1.0) -> bytes:
        """A model that answers yes for one breast's images and no for all others."""
        model: MaMA = build_model(self.experiment)
        wanted = -torch.ones(len(self.pooled), dtype=torch.float64)
        wanted[list(self.units[target].images)] = 1
        known = torch.cat([self.pooled, torch.ones(len(self.pooled), 1)], dim=1)
        known = known.to(torch.float64)
        u = torch.linalg.lstsq(known, wanted[:, None], driver="gelsd").solution[:, 0] * scale
        with torch.no_grad():
            model.image_projection.weight.copy_(torch.outer(self.towards_yes, u[:-1]))
            model.image_projection.bias.copy_(self.towards_yes * u[-1])
            model.logit_scale.fill_(math.log(1e3))
        return encode(trained_arrays(model))

    def ask(self, number: int, payload: bytes, run: str = "run-1", **header: Any) -> Answer:
        task = Task(
            run=run,
            round=number,
            task=f"evaluate-{number}",
            kind="evaluate",
            experiment=self.experiment.canonical_json(),
            experiment_hash=self.experiment.hash(),
            **header,
        )
        return answer(self.site, task.encode(), payload)[0]

    def label(self, number: int, target: int, scale: float = 1.0) -> str:
        """The label of a breast as the counts of one model tell it."""
        reply = self.ask(number, self.model_for(target, scale))
        assert reply.evaluation is not None, reply.status
        recall = reply.evaluation.counts["zero_shot"]["suspicious"].recalls["yes"]
        assert recall is not None
        assert recall.correct + recall.mistaken == 1  # the breast stands alone
        return "yes" if recall.correct else "no"


def labels_of(site: SiteFile, odds: float | None) -> list[str | None]:
    """The test breasts' labels, masked with these odds."""
    dataset = dataset_of(site)
    mask = Mask(dataset.manifest.studies, site.read_secret(), odds)
    return [unit.truth for unit in units_of(mask.apply(dataset.studies("test")), "suspicious")]


def separable(coordinator: Coordinator) -> list[int]:
    """The breasts that the planted model can single out."""
    return list(range(min(8, len(coordinator.units))))


def test_with_the_masking_off_every_label_is_read(
    site_with: Callable[..., SiteFile], experiment: Experiment
) -> None:
    site = site_with(minimum_cell=1, label_odds=None, max_evaluations=1000)
    coordinator = Coordinator(site, experiment)
    targets = separable(coordinator)
    truths = labels_of(site, None)
    read = [coordinator.label(number, target) for number, target in enumerate(targets, 1)]
    assert read == [truths[target] for target in targets]
    assert set(read) == {"yes", "no"}


def test_all_models_together_tell_the_masked_label_and_nothing_else(
    site_with: Callable[..., SiteFile], experiment: Experiment
) -> None:
    """Even with neither cells nor a quota in the way."""
    site = site_with(minimum_cell=1, label_odds=3, max_evaluations=1000)
    coordinator = Coordinator(site, experiment)
    targets = separable(coordinator)
    masked, truths = labels_of(site, 3), labels_of(site, None)
    assert [masked[target] for target in targets] != [truths[target] for target in targets]
    for number, scale in ((100, 1.0), (200, 3.0)):  # other models, other runs of numbers
        read = [coordinator.label(number + target, target, scale) for target in targets]
        assert read == [masked[target] for target in targets]


def population(patients: int, truth: str, studies: int = 1) -> list[Study]:
    image = Image(id="i", laterality="L", view="CC", vendor=None, height=8, width=8)
    return [
        Study(
            id=f"{truth}{p}-{s}",
            patient=f"{truth}{p}",
            split="test",
            images=(image,),
            sentences=(),
            labels=Labels(density=truth, suspicious={"L": truth > "B"}),
        )
        for p in range(patients)
        for s in range(studies)
    ]


def test_a_masked_label_changes_the_odds_of_a_true_one_by_the_stated_factor() -> None:
    everyone = [study for truth in "ABCD" for study in population(1500, truth)]
    mask = Mask(everyone, b"k" * 32, 3)
    masked = mask.apply(everyone)
    for label, classes in (("suspicious", ("no", "yes")), ("density", tuple("ABCD"))):
        pairs = [
            (a.truth, b.truth)
            for a, b in zip(units_of(everyone, label), units_of(masked, label), strict=True)  # type: ignore[arg-type]
        ]
        table = np.array([[sum(p == (t, s) for p in pairs) for s in classes] for t in classes])
        shares = table / table.sum(1, keepdims=True)
        kept, moved = mask.rates(label)  # type: ignore[arg-type]
        assert kept / moved == pytest.approx(3)
        expected = np.where(np.eye(len(classes)), kept, moved)
        np.testing.assert_allclose(shares, expected, atol=0.05)
        # An attacker who knows nothing else is right as often as `kept` says, and no more.
        assert np.trace(table) / len(pairs) == pytest.approx(kept, abs=0.03)


def test_a_patients_studies_give_one_draw() -> None:
    """Four draws of one label would raise the odds to the fourth power."""
    studies = population(200, "A", studies=4) + population(1, "B")
    masked = Mask(studies, b"k" * 32, 3).apply(studies)
    per_patient = [
        sum(s.labels.density is not None for s in masked[4 * p :][:4]) for p in range(200)
    ]
    assert per_patient == [1] * 200


def test_an_experiment_with_fewer_classes_learns_nothing_more() -> None:
    """If the masking followed the experiment's classes, one class alone would reveal its owner."""
    studies = [study for truth in "ABCD" for study in population(50, truth)]
    masked = Mask(studies, b"k" * 32, 3).apply(studies)
    said_a = [s.patient[0] for s in masked if s.labels.density == "A"]
    assert 0 < said_a.count("A") < 50
    assert set(said_a) == set("ABCD")


def test_a_dataset_of_one_class_has_no_labels_to_tell() -> None:
    masked = Mask(studies := population(9, "D"), b"k" * 32, 3).apply(studies)
    assert {s.labels.density for s in masked} == {None}


def test_a_round_has_one_model_and_its_answer_repeats(
    site_with: Callable[..., SiteFile], experiment: Experiment
) -> None:
    site = site_with(max_evaluations=2)
    coordinator = Coordinator(site, experiment)
    first, second = coordinator.model_for(0), coordinator.model_for(1)
    once = coordinator.ask(1, first)
    assert once.evaluation
    assert coordinator.ask(1, second).status == ErrorCode.POLICY_EVALUATIONS
    shutil.rmtree(site.run_folder("run-1"))
    assert coordinator.ask(1, second).status == ErrorCode.POLICY_EVALUATIONS
    assert coordinator.ask(1, first).evaluation == once.evaluation
    assert coordinator.ask(1, first, run="run-2").status == "ok"
    # The quota is that of all runs; what was answered before is free.
    assert coordinator.ask(2, first).status == ErrorCode.POLICY_EVALUATIONS
    assert coordinator.ask(1, first, run="run-3").status == ErrorCode.POLICY_EVALUATIONS
    assert coordinator.ask(1, first).evaluation == once.evaluation


def test_by_default_a_planted_model_is_not_evaluated_at_all(
    site_with: Callable[..., SiteFile], experiment: Experiment
) -> None:
    coordinator = Coordinator(site_with(max_model_step=10), experiment)
    assert coordinator.ask(1, coordinator.model_for(0)).status == ErrorCode.MODEL_STEP


def test_with_neither_rule_a_second_model_is_counted(
    site_with: Callable[..., SiteFile], experiment: Experiment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Evaluations, "answer", lambda self, task, model, today, count: count())
    coordinator = Coordinator(site_with(max_evaluations=0), experiment)
    assert coordinator.ask(1, coordinator.model_for(0)).status == "ok"
    assert coordinator.ask(1, coordinator.model_for(1)).status == "ok"


def test_probes_are_fitted_once_a_run(
    site_with: Callable[..., SiteFile], experiment: Experiment
) -> None:
    coordinator = Coordinator(site_with(), experiment)
    model = coordinator.model_for(0)
    assert coordinator.ask(1, model).status == "ok"
    fitted = coordinator.ask(1, model, probes=True)
    assert fitted.status == "ok"
    assert coordinator.ask(1, model, probes=True).evaluation == fitted.evaluation
    assert coordinator.ask(2, model, probes=True).status == ErrorCode.POLICY_EVALUATIONS
    assert coordinator.ask(2, model).status == "ok"


@pytest.mark.parametrize("damage", ["half", "bit", "list", "empty", "folder"])
def test_a_damaged_record_stops_evaluations(
    site_with: Callable[..., SiteFile], experiment: Experiment, damage: str
) -> None:
    site = site_with()
    coordinator = Coordinator(site, experiment)
    model = coordinator.model_for(0)
    assert coordinator.ask(1, model).status == "ok"
    path = site.privacy / "evaluations"
    assert path.stat().st_mode & 0o77 == 0
    whole = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        flipped = bytes([*whole[:-9], whole[-9] ^ 1, *whole[-8:]])
        path.write_bytes(
            {"half": whole[: len(whole) // 2], "bit": flipped, "list": b"[1, 2]", "empty": b""}[
                damage
            ]
        )
    assert coordinator.ask(1, model).status == ErrorCode.LEDGER
    assert coordinator.ask(2, model).status == ErrorCode.LEDGER
