"""The site's own report: its mammograms and report text beside the model's answers. It stays at the site."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image as Picture

from client.consent import dataset_of
from client.method import LocalMethod
from client.sent import SentRecord, answers_of
from client.sent_view import by_run, figure_lines
from client.sitefile import SiteFile
from client.work import device_of
from mama.data.sentences import for_side
from mama.data.studies import Image, Split, Study
from mama.evaluation.features import image_features
from mama.evaluation.predictions import Predictions, metrics
from mama.evaluation.zero_shot import zero_shot
from mama.exchange.metrics import Label
from mama.exchange.tensors import local_tensors
from mama.export import load_final
from mama.files import write_text

SHOWN = 8
THUMBNAIL = 480  # pixels, the longer side at most
LABELS: dict[Label, str] = {"density": "Breast density", "suspicious": "Suspicious lesion"}
TRUTHS = {True: "yes", False: "no", None: None}


@dataclass(frozen=True)
class Case:
    """One mammogram to show; `number` counts through all images of the studies it was chosen from."""

    study: Study
    image: Image
    number: int

    @property
    def suspicious(self) -> bool | None:
        """Whether the shown breast holds a suspicious lesion; None where the labels are silent."""
        side = self.image.laterality
        return (self.study.labels.suspicious or {}).get(side) if side else None


def write_site_report(site: SiteFile, final: Path, path: Path, run: str | None = None) -> Path:
    """Write the site's report on the model in `final` to `path`; returns `path`.

    Shown and scored are test studies, and training studies only where there is no other.

    Args:
        run: the model takes the local tensors that this site keeps of that run.

    Raises:
        ModelError: `final` holds no model.
        DataError: the site's dataset is missing, damaged or of another key.
        ConfigError: the list of those who withdrew cannot be read.
        IntegrityError: the record of what the site sent is damaged.
    """
    model, experiment = load_final(final)
    if run:
        config = experiment.federation
        own = LocalMethod(site, config, run, config.rounds)
        own.put_own(model, local_tensors(model, config.local), after=True)
    dataset, device = dataset_of(site), device_of(site)
    model.to(device)
    split: Split = "test" if dataset.studies("test") else "train"
    studies = dataset.studies(split)
    answers: dict[Label, Predictions] = {}
    if studies:
        features = image_features(model, dataset, studies, device)
        answers = zero_shot(model, experiment, studies, features, device)
    trail = SentRecord(site).read()
    sent = answers_of(trail)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("site_report.html.j2").render(
        site=site.site,
        experiment=experiment.name,
        split=split,
        figures={LABELS[label]: metrics(predictions) for label, predictions in answers.items()},
        cases=[_shown(case, dataset.pixels(case.image), answers) for case in choose(studies)],
        counts=[_counts(name, dataset.studies(name)) for name in ("train", "test")],
        sent=by_run(sent),
        figure_lines=figure_lines(sent),
        sent_head=trail.head,
    )
    write_text(path, page)
    return path


def choose(studies: list[Study]) -> list[Case]:
    """At most SHOWN cases, one a study: half with a suspicious lesion where there are so many.

    The first in the order of the studies, whatever the model answers.
    """
    cases, first = [], 0
    for study in studies:
        of_study = [Case(study, image, first + i) for i, image in enumerate(study.images)]
        first += len(of_study)
        cases += sorted(of_study, key=lambda case: case.suspicious is not True)[:1]
    worrying = [case for case in cases if case.suspicious]
    others = [case for case in cases if not case.suspicious]
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
        "sentences": for_side(case.study.sentences, image.laterality),
    }


def _answer(predictions: Predictions, number: int) -> dict[str, float]:
    """Class probabilities of the study or breast that an image belongs to; empty when there is none."""
    for unit, row in zip(predictions.units, predictions.probabilities, strict=True):
        if number in unit.images:
            return dict(zip(predictions.classes, map(float, row), strict=True))
    return {}


def _png(pixels: np.ndarray) -> str:
    """A data URL of uint8 (height, width) pixels."""
    picture = Picture.fromarray(pixels)
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    data = io.BytesIO()
    picture.save(data, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(data.getvalue()).decode()


def _counts(split: str, studies: list[Study]) -> dict[str, Any]:
    breasts = [truth for study in studies for truth in (study.labels.suspicious or {}).values()]
    return {
        "split": split,
        "patients": len({study.patient for study in studies}),
        "studies": len(studies),
        "images": sum(len(study.images) for study in studies),
        "empty reports": sum(not study.sentences for study in studies),
        "studies of known density": sum(study.labels.density is not None for study in studies),
        "breasts with a suspicious lesion": sum(breasts),
        "breasts without": len(breasts) - sum(breasts),
    }
