"""Model cards: of the folder that a run leaves, and of an export, written from the run's record.

Only figures that a run's report shows are used: suppressed counts, pooled metrics, the privacy
budget. Names of sites are left out.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from mama.config import Experiment
from mama.exchange.metrics import LABELS, DataStatistics
from mama.system.formats import figure
from mama.system.sealed import opened, read_if_whole

NO_DEVICE = "Research use only: this is no medical device, and its answers are no diagnosis."

HEAD = """\
# {name}

A vision-language model of mammograms, trained with FedMaMA: image tower {image}, text tower {text},
images of {height} x {width} pixels with the chest wall on the left.
"""
USE = f"\n{NO_DEVICE}\n"
FINAL = """
    from mama.final.pretrained import PretrainedMaMA
    model = PretrainedMaMA.from_pretrained("path/to/this/folder")
"""
LICENCE = """
## Licence

{licence} The licences of the base models apply as well.
"""
SHARED = "No training data was marked as having a licence that lets no weights be shared."
NOT_SHARED = (
    "**These weights derive from data whose licence does not allow weights to be shared.** Do not\n"
    "publish them or pass them on without the licensor's agreement."
)
UNKNOWN = "The licence of the training data is not recorded. Ask the sites before sharing weights."
INTENDED = """
## Intended use

Research on representations of mammograms: similarity of images and sentences, features for models
that are then trained and tested for themselves, comparison of ways to train. Not for screening,
diagnosis or triage, and not for any decision on a person.
"""
UNTESTED = """
## Not tested

Other vendors, populations and reading habits than those of the training sites; implants, men,
images after surgery, tomosynthesis; calibration of the probabilities; differences between age
groups or densities. Whether an image's embedding reveals its patient was not tested either.
"""


def final_card(experiment: Experiment, *, share_weights: bool) -> str:
    """Return the README of a run's `final/`."""
    licence = LICENCE.format(licence=SHARED if share_weights else NOT_SHARED)
    return _head(experiment) + FINAL + USE + licence


def export_card(experiment: Experiment, final: Path, contents: str) -> str:
    """Return the README of an export.

    Args:
        experiment: the model's.
        final: the run's `final/`; the record of the run is beside it, if there is one.
        contents: section on the exported files.
    """
    run = final.parent if (final.parent / "metrics.json").is_file() else None
    metrics = read_if_whole(run / "metrics.json") if run else {}
    parts = [
        _head(experiment),
        USE,
        contents,
        _training(experiment, metrics),
        _data(_statistics(run / "rounds.jsonl") if run else []),
        _privacy(experiment, metrics.get("privacy")),
        _metrics(metrics.get("evaluation")),
        UNTESTED,
        INTENDED,
        _licence(final / "README.md"),
    ]
    return "".join(parts)


def _head(experiment: Experiment) -> str:
    height, width = experiment.image.size
    towers = {"image": experiment.image.tower, "text": experiment.text.tower}
    return HEAD.format(name=experiment.name, height=height, width=width, **towers)


def _training(experiment: Experiment, metrics: Mapping[str, Any]) -> str:
    lines = [f"- experiment {experiment.hash()[:16]}, seed {experiment.seed}"]
    if sites := metrics.get("sites"):
        run = f"run {metrics.get('run')}, " if metrics.get("run") else ""
        steps = experiment.federation.local_steps
        rounds = metrics.get("rounds")
        lines.append(f"- {run}{len(sites)} sites, {rounds} rounds of {steps} local steps")
    elif metrics.get("steps"):
        lines.append(f"- one dataset, {metrics['steps']} steps, without a federation")
    else:
        lines.append("- no record of the run was beside the model")
    return _section("Training", lines)


def _data(statistics: list[DataStatistics]) -> str:
    """Return the section on data, from the sites' suppressed counts."""
    if not statistics:
        return _section("Data", ["The sites published no counts of their data."])
    lines = [
        f"{len(statistics)} sites published counts: {sum(s.patients for s in statistics)} "
        f"patients, {sum(s.studies for s in statistics)} studies. Cells below a site's minimum "
        "are left out of the sums.\n",
        "| | counts |",
        "|---|---|",
    ]
    for table in dict.fromkeys(name for site in statistics for name in site.tables):
        sums: dict[str, int] = {}
        for site in statistics:
            for value, count in site.tables[table].cells.items() if table in site.tables else ():
                sums[value] = sums.get(value, 0) + (count or 0)
        cells = ", ".join(f"{value} {count}" for value, count in sorted(sums.items()) if count)
        lines.append(f"| {table} | {cells or 'all suppressed'} |")
    return _section("Data", lines)


def _privacy(experiment: Experiment, statement: Mapping[str, Any] | None) -> str:
    privacy = experiment.privacy
    if privacy.mode == "none":
        text = "Trained without differential privacy: the weights may reveal training data."
    else:
        spent = (statement or {}).get("maximum")
        budget = f"epsilon {privacy.epsilon:g}, delta {privacy.delta:g}"
        actual = f"; spent at most {spent:.3g}" if isinstance(spent, float) else ""
        text = f"Differential privacy of each {privacy.mode}: {budget}{actual}."
    hidden = " Updates were summed by secure aggregation." if privacy.secure else ""
    return _section("Privacy", [text + hidden])


def _metrics(evaluation: Mapping[str, Any] | None) -> str:
    """Return the section on metrics: zero-shot, of the sites' test studies."""
    found = evaluation or {}
    figures = found.get("federated", found).get("zero_shot") or {}
    lines = ["| zero-shot | AUC | balanced accuracy | units |", "|---|---|---|---|"]
    for label in LABELS:
        of = figures.get(label, {})
        units = ", ".join(f"{count} {name}" for name, count in of.get("classes", {}).items())
        numbers = [figure(of.get(key)) for key in ("auc", "balanced_accuracy")]
        lines.append(f"| {label} | {numbers[0]} | {numbers[1]} | {units or 'none'} |")
    lines.append(
        "\nOf test studies of the training sites; no intervals. A dash: too few units of a class."
    )
    return _section("Metrics", lines)


def _licence(card: Path) -> str:
    """Return the section on the licence as the run's own card has it."""
    text = card.read_text(encoding="utf-8") if card.is_file() else ""
    _, found, section = text.partition("## Licence\n")
    return f"\n## Licence\n{section}" if found else LICENCE.format(licence=UNKNOWN)


def _statistics(rounds: Path) -> list[DataStatistics]:
    """Return the counts that sites published, by the events of a run.

    The first answer of a site counts, as in the run's report; most sites publish none. Lines that
    were modified, or are of another version, are passed over.
    """
    answers: dict[str, Any] = {}
    if rounds.is_file():
        with open(rounds, "rb") as lines:
            for line in lines:
                event = opened(line)
                if event and event.get("event") == "statistics":
                    answers.setdefault(str(event.get("site")), event.get("statistics"))
    found = []
    for answer in answers.values():
        try:
            if answer is not None:
                found.append(DataStatistics.model_validate(answer))
        except ValidationError:
            continue
    return found


def _section(title: str, lines: list[str]) -> str:
    return f"\n## {title}\n\n" + "\n".join(lines) + "\n"
