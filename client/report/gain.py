"""A hospital's gain from a run: AUC of the first, the last and optionally the hospital's own model.

All models are scored on the same test studies; confidence intervals, also those of differences, are
bootstrapped over patients (`mama.evaluation.bootstrap`).
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from client.report.first_model import first_model
from client.site.config import SiteFile
from mama.config import Experiment
from mama.config.earlier import find_final
from mama.errors import ConfigError, IntegrityError, ModelError
from mama.evaluation.bootstrap import Estimate, Scored
from mama.evaluation.predictions import Predictions
from mama.exchange.metrics import LABELS, Label
from mama.final.saved import load_final, read_experiment
from mama.model import MaMA
from mama.training.warm_start import require_same

Answers = dict[Label, Predictions]


class Row(NamedTuple):
    """One row of the table: a model's AUC, or the difference of two; None if it is not known."""

    name: str
    figure: Estimate | None
    difference: bool = False


class Gain(NamedTuple):
    """The rows of each label, and remarks for readers on missing figures."""

    rows: dict[Label, list[Row]]
    remarks: list[str]


def gain_of(
    site: SiteFile,
    experiment: Experiment,
    last: tuple[MaMA, Answers],
    run: str | None,
    local: Path | None,
    answer: Callable[[MaMA], Answers],
) -> Gain:
    """Compare the run's last model with its first and with the site's own.

    Args:
        site: the site's settings.
        experiment: the run's experiment.
        last: the final model and its predictions.
        run: the run's name; None if it is not known.
        local: folder of a model that the site trained alone, if any.
        answer: returns a model's predictions for the site's test studies.

    Raises:
        ModelError: `local` contains no model, or one of another architecture.
        ConfigError: `local` uses other prompts.
    """
    own = find_final(local) if local else None
    if own:
        _require_comparable(experiment, read_experiment(own), f"--local {local}")
    model, final = _scored(last[1]), "final model"
    remarks: list[str] = []
    compared = {final: model}
    try:
        built, remark = first_model(site, experiment, last[0], run)
        remarks += [remark] if remark else []
        compared = {"round 0": _scored(answer(built))} | compared
    except (ModelError, IntegrityError) as error:
        remarks.append(f"Round 0 is not known: {str(error).rstrip('.')}.")
    if own is None:
        remarks.append(
            "To compare with a model trained on this hospital's data alone, name its folder: "
            "mama-site report SITE RUN --local FOLDER."
        )
    else:
        alone, its = load_final(own)
        remarks.append(_training_of(its, experiment))
        compared["own model"] = _scored(answer(alone))
    rows: dict[Label, list[Row]] = {}
    for label in LABELS:
        rows[label] = [Row(name, one[label].estimate()) for name, one in compared.items()]
        rows[label] += [
            Row(f"{final} − {name}", model[label].gain_over(one[label]), difference=True)
            for name, one in compared.items()
            if name != final
        ]
    return Gain(rows, remarks)


def _scored(answers: Answers) -> dict[Label, Scored]:
    return {label: Scored(predictions) for label, predictions in answers.items()}


def _require_comparable(experiment: Experiment, own: Experiment, where: str) -> None:
    require_same(experiment, own, where)
    if own.evaluation != experiment.evaluation:
        raise ConfigError(
            "uses other prompts (evaluation) than the run's model",
            where=where,
            fix="Train it with the run's experiment: mama train EXPERIMENT",
        )


def _training_of(own: Experiment, experiment: Experiment) -> str:
    """Return a sentence that compares the own model's training with the run's."""
    differing = sorted(
        name
        for name in type(own).model_fields
        if name not in ("name", "evaluation") and getattr(own, name) != getattr(experiment, name)
    )
    steps = (
        f"The own model took {own.total_steps} steps, each site of the run up to "
        f"{experiment.total_steps}"
    )
    if differing:
        return f"{steps}; their experiments differ in: {', '.join(differing)}."
    return f"{steps}."
