"""Answers with NaN or infinity, from a diverged or hostile model: none is counted or scored.

Steps without contrast are of the same kind: what was not learnt is not sent as if it were.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from client.handlers import answer
from client.site.config import SiteFile, load_site
from mama.config import Experiment
from mama.data.manifest import Dataset, write_manifest
from mama.data.studies import Sentence
from mama.errors import TrainingError
from mama.evaluation.counts import label_counts
from mama.evaluation.predictions import Predictions, Unit, metrics
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import encode
from mama.exchange.protocol import Kind, Task
from mama.exchange.update import initial_arrays
from mama.model import build_model

UNITS = [Unit((n,), "no" if n % 2 else "yes", None, f"s{n}", f"p{n}") for n in range(40)]


def task(experiment: Experiment, kind: Kind, **values: object) -> str:
    made = Task(
        run="r",
        round=1,
        task=f"{kind}-1",
        kind=kind,
        experiment=experiment.canonical_json(),
        experiment_hash=experiment.hash(),
        **values,  # type: ignore[arg-type]
    )
    return made.encode()


@pytest.fixture
def experiment(small_config: Callable) -> Experiment:
    found: Experiment = small_config().experiment()
    return found


@pytest.fixture
def site(site_files: Callable[..., list[Path]]) -> SiteFile:
    return load_site(site_files()[0])


@pytest.fixture
def arrays(experiment: Experiment) -> Arrays:
    return initial_arrays(build_model(experiment), experiment.strategy)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (39, 1)])
def test_a_score_that_is_no_number_is_no_answer(value: float, place: tuple[int, int]) -> None:
    scores = np.full((40, 2), 0.5)
    scores[place] = value
    with pytest.raises(TrainingError, match="are not finite, so nothing") as error:
        Predictions(("no", "yes"), scores, UNITS)
    assert "\n" not in str(error.value)


def test_without_the_check_it_would_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Predictions, "__post_init__", lambda self: None)
    scores = np.full((40, 2), np.nan)
    with np.errstate(invalid="ignore"):
        counted = label_counts(Predictions(("no", "yes"), scores, UNITS), 5, b"key")
    assert counted is not None
    cells = counted.histograms["yes"]
    assert cells is not None
    assert sum(cell.positives + cell.negatives for cell in cells) == 40
    with pytest.raises(ValueError, match="NaN"):
        metrics(Predictions(("no", "yes"), scores, UNITS))


@pytest.mark.parametrize("probes", [False, True])
@pytest.mark.parametrize(
    ("name", "value"),
    [("logit_scale", 800.0), ("image_projection.weight", 3e38), ("text_projection.weight", 3e38)],
)
def test_a_model_that_answers_no_numbers_is_answered_with_a_code(
    site: SiteFile, experiment: Experiment, arrays: Arrays, name: str, value: float, probes: bool
) -> None:
    planted = arrays | {name: np.full_like(arrays[name], value)}
    header = task(experiment, "evaluate", probes=probes)
    said, _ = answer(site, header, encode(planted))
    assert (said.status, said.evaluation) == ("training", None)
    honest, _ = answer(site, task(experiment, "evaluate"), encode(arrays))
    assert honest.status == "ok"


def one_patient(site: SiteFile) -> None:
    """All training studies are of one patient, of whom a step takes one study."""
    change(site, lambda study, first: study.model_copy(update={"patient": first.patient}))


def one_report(site: SiteFile) -> None:
    plain = Sentence(text="Unremarkable.", side="both", section=None)
    change(site, lambda study, first: study.model_copy(update={"sentences": (plain,)}))


def one_described(site: SiteFile) -> None:
    change(
        site,
        lambda study, first: (
            study if study.id == first.id else study.model_copy(update={"sentences": ()})
        ),
    )


def change(site: SiteFile, edit: Callable) -> None:
    dataset = Dataset(site.data.dataset)
    first = dataset.studies("train")[0]
    studies = [edit(s, first) if s.split == "train" else s for s in dataset.manifest.studies]
    write_manifest(dataset.folder, dataset.manifest.model_copy(update={"studies": tuple(studies)}))


def text_alone(experiment: Experiment) -> Experiment:
    """Only terms that need unequal reports: several patients' views have their own contrast."""
    off = experiment.loss.image_image.model_copy(update={"weight": 0.0})
    loss = experiment.loss.model_copy(update={"image_image": off})
    return experiment.model_copy(update={"loss": loss})


@pytest.mark.parametrize("make", [one_patient, one_report, one_described])
def test_a_round_without_contrast_sends_a_code_and_no_update(
    site: SiteFile, experiment: Experiment, arrays: Arrays, make: Callable
) -> None:
    asked = experiment if make is one_patient else text_alone(experiment)
    payload = encode(arrays)
    make(site)
    said, update = answer(site, task(asked, "train"), payload)
    assert (said.status, said.training) == ("no_contrast", None)
    assert update == b""
    folder = site.run_folder("r")
    assert not list(folder.glob("optimiser/*"))
    assert answer(site, task(asked, "train"), payload)[0].status == "no_contrast"


def test_with_contrast_the_same_round_is_sent(
    site: SiteFile, experiment: Experiment, arrays: Arrays
) -> None:
    said, update = answer(site, task(text_alone(experiment), "train"), encode(arrays))
    assert said.status == "ok"
    assert len(update) > 1000


def test_the_sites_own_report_of_such_a_model_is_one_line(
    site: SiteFile, experiment: Experiment, tmp_path: Path
) -> None:
    from client.report.page import write_site_report
    from mama.final.saved import save_final

    model = build_model(experiment)
    model.logit_scale.data.fill_(800.0)
    save_final(tmp_path / "final", model, experiment)
    with pytest.raises(TrainingError, match="are not finite, so nothing"):
        write_site_report(site, tmp_path / "final", tmp_path / "r.html")
    assert not (tmp_path / "r.html").exists()
