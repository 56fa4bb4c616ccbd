"""The site's report: its mammograms and reports with model predictions; it stays at the site."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from client.errors import RefusedError
from client.privacy.sent import SentRecord, answers_of
from client.privacy.sent_view import by_run, figure_lines
from client.report.gain import gain_of
from client.site.config import SiteFile
from client.site.dataset import dataset_of
from client.site.final_models import origin
from client.training.gpu_memory import limit_gpu_memory
from client.training.strategy import LocalMethod
from mama.config.earlier import find_final
from mama.data.picture import data_url
from mama.data.studies import Image, Split, Studies, Study
from mama.errors import ModelError
from mama.evaluation.bootstrap import LEAST
from mama.evaluation.features import image_features
from mama.evaluation.predictions import Predictions, metrics
from mama.evaluation.protocols.zero_shot import zero_shot
from mama.exchange.metrics import Label
from mama.exchange.tensors import local_tensors
from mama.final.saved import load_final
from mama.model import MaMA
from mama.system.files import write_text
from mama.system.pages import render
from mama.training.device import device_of

SHOWN = 8
THUMBNAIL = 480  # pixels, the longer side at most
LABELS: dict[Label, str] = {"density": "Breast density", "suspicious": "Suspicious lesion"}
COUNTED = (
    "images",
    "empty reports",
    "studies of known density",
    "breasts with a suspicious lesion",
    "breasts without",
)
TRUTHS = {True: "yes", False: "no", None: None}


@dataclass(frozen=True)
class Case:
    """One mammogram to show; `number` is its index among all images of the candidate studies."""

    study: Study
    image: Image
    number: int

    @property
    def suspicious(self) -> bool | None:
        """True if the shown breast has a suspicious lesion; None without a label."""
        side = self.image.laterality
        return (self.study.labels.suspicious or {}).get(side) if side else None


def write_site_report(site: SiteFile, folder: Path, path: Path, local: Path | None = None) -> Path:
    """Write the site's report on a run's final model to `path`, and return `path`.

    The report shows and scores test studies, or training studies if there are no test studies. A
    coordinator's copy of the model is completed by the local tensors that this site kept.

    Args:
        site: the site's settings.
        folder: folder of the run at the site or at the coordinator, or its `final/`.
        path: the page to write.
        local: folder of a model that the site trained alone, to compare with.

    Raises:
        ModelError: `folder` or `local` contains no model, or their architectures differ.
        DataError: the site's dataset is missing, damaged or of another key.
        ConfigError: the list of withdrawn patients cannot be read, or `local` uses other prompts.
        IntegrityError: the record of sent answers is damaged.
    """
    final = find_final(folder)
    model, experiment = load_final(final)
    run, kept_here = origin(final)
    if run and not kept_here:
        config = experiment.strategy
        own = LocalMethod(site, config, run, experiment.federation.rounds)
        own.put_own(model, local_tensors(model, config.local), after=True)
    dataset, device = dataset_of(site), device_of(site.device)
    split: Split = "test" if dataset.studies("test") else "train"
    studies = dataset.studies(split)

    def answer(of: MaMA) -> dict[Label, Predictions]:
        try:
            limit_gpu_memory(site, of, device)
        except RefusedError as error:
            raise ModelError(error.code.sentence, where="policy.max_gpu_gib") from None
        features = image_features(of.to(device), dataset, studies, device)
        found = zero_shot(of, experiment, studies, features, device)
        of.cpu()  # one at a time on the GPU
        return found

    answers = answer(model) if studies else {}
    gain = None
    if studies and split == "test":
        gain = gain_of(site, experiment, (model, answers), run, local, answer)
    trail = SentRecord(site).read()
    sent = answers_of(trail)
    page = render(
        Path(__file__).with_name("site_report.html.j2"),
        site=site.site,
        experiment=experiment.name,
        split=split,
        gain=gain,
        least=LEAST,
        labels=LABELS,
        figures={LABELS[label]: metrics(predictions) for label, predictions in answers.items()},
        cases=[_shown(case, dataset.pixels(case.image), answers) for case in choose(studies)],
        counts=[_counts(name, dataset.studies(name)) for name in ("train", "test")],
        sent=by_run(sent),
        figure_lines=figure_lines(sent),
        sent_head=trail.head,
    )
    write_text(path, page)
    return path


def choose(studies: Iterable[Study]) -> list[Case]:
    """Return at most SHOWN cases, one per study, half of them with a suspicious lesion if possible.

    They are the first in the order of the studies, independent of the model's predictions.
    """
    worrying: list[Case] = []
    others: list[Case] = []
    first = 0
    for study in studies:
        of_study = [Case(study, image, first + i) for i, image in enumerate(study.images)]
        first += len(of_study)
        for case in sorted(of_study, key=lambda case: case.suspicious is not True)[:1]:
            kind = worrying if case.suspicious else others
            if len(kind) < SHOWN:
                kind.append(case)
    half = SHOWN // 2
    kept = max(half, SHOWN - len(others))
    return worrying[:kept] + others[: SHOWN - len(worrying[:kept])]


def _shown(case: Case, pixels: np.ndarray, answers: dict[Label, Predictions]) -> dict[str, Any]:
    image = case.image
    words = (image.laterality or "side unknown", image.view or "view unknown", image.vendor or "")
    return {
        "study": case.study.id,
        "title": " ".join(words[:2]),
        "vendor": words[2],
        "picture": _png(pixels),
        "density": _answer(answers["density"], case.number),
        "suspicious": _answer(answers["suspicious"], case.number),
        "truths": {
            "density": case.study.labels.density,
            "suspicious": TRUTHS[case.suspicious],
        },
        "sentences": case.study.texts(image.laterality),
    }


def _answer(predictions: Predictions, number: int) -> dict[str, float]:
    """Return class probabilities of the image's study or breast; empty if there are none."""
    for unit, row in zip(predictions.units, predictions.probabilities, strict=True):
        if number in unit.images:
            return dict(zip(predictions.classes, map(float, row), strict=True))
    return {}


def _png(pixels: np.ndarray) -> str:
    """Return uint8 (height, width) pixels as a data URL."""
    picture = Picture.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return data_url(picture)


def _counts(split: str, studies: Studies) -> dict[str, Any]:
    found = dict.fromkeys(COUNTED, 0)
    for study in studies:
        found["images"] += len(study.images)
        found["empty reports"] += not study.sentences
        found["studies of known density"] += study.labels.density is not None
        breasts = (study.labels.suspicious or {}).values()
        found["breasts with a suspicious lesion"] += sum(breasts)
        found["breasts without"] += len(breasts) - sum(breasts)
    patients = len(set(studies.patients))
    return {"split": split, "patients": patients, "studies": len(studies), **found}
