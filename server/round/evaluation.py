"""Evaluation of the global model by the sites, and the checks of their counts.

A site can lie about its accuracy without detection. It cannot claim classes that the experiment
lacks, or so many units that the others' no longer matter.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from mama.config import Experiment
from mama.errors import ProtocolError
from mama.evaluation.pooling import summary
from mama.exchange.metrics import Cell, EvaluationCounts, LabelCounts
from server.report.metrics import mean_auc
from server.round.sites import Sites
from server.round.state import RoundState
from server.run.context import RunContext
from server.run.events import Evaluated, ModelReceived

# Units (studies or breasts) of the test split for each training study: two breasts, and five test
# studies.
UNITS_A_STUDY = 10
# A site is credited with at most this many times the training studies of the largest other one.
ABOVE_OTHERS = 4
PRIVATE = "under privacy.mode patient evaluations stay at the sites"


def evaluate(run: RunContext, sites: Sites, *, probes: bool) -> dict[str, Any]:
    """Have the sites evaluate the newest model; return the pooled figures.

    Args:
        run: context of the run.
        sites: of the run.
        probes: whether to fit linear probes too.
    """
    number = run.number = run.checkpoint.round
    private = run.experiment.privacy.mode == "patient"
    skipped = run.sites.skipped(number, run.experiment.participation.pause_after)
    # The size of a site is unknown before its first accepted update.
    asked = [] if private else sorted((set(run.sites.studies) & run.known) - skipped)
    counts: dict[str, EvaluationCounts] = {}
    for delivery in sites.exchange("evaluate", exchange_of(run, asked), probes=probes):
        answer, site = delivery.reply.answer, delivery.site
        if delivery.when != "on_time" or not answer or not answer.evaluation:
            continue
        try:
            most = most_units(site, run.sites.studies)
            check_evaluation(answer.evaluation, run.experiment, most, probes=probes)
        except ProtocolError as error:
            run.problem(site, f"evaluation refused: {error}")
        else:
            counts[site] = answer.evaluation
    found = summary(counts, PRIVATE) if private else summary(counts)
    # Choosing the best model by figures without noise would be another release.
    auc = mean_auc(found) if run.experiment.privacy.mode == "none" else None
    run.emit(Evaluated(round=number, federated=found, auc=auc))
    run.folder.evaluated(number, auc)
    return found


def hand_out(run: RunContext, sites: Sites) -> None:
    """Send the last model to every connected site that took part.

    Other sites receive it when the run is started again.
    """
    here = sorted(set(run.sites.studies).intersection(sites.connected))
    for delivery in sites.exchange("finish", exchange_of(run, here)):
        answer = delivery.reply.answer
        if answer and answer.final == sites.downlink.digest:
            run.emit(ModelReceived(round=run.number, site=delivery.site))
        else:
            run.problem(delivery.site, "it stored another model")


def exchange_of(run: RunContext, sites: list[str]) -> RoundState:
    """Return the state of an exchange that closes with any number of answers."""
    config = run.experiment.participation
    return RoundState(sites, config.deadline_s, slots=run.slots, gone_s=config.gone_s)


def most_units(site: str, studies: Mapping[str, int]) -> int:
    """Return the most test units a site can have, by the training studies that all sites claim."""
    others = [claimed for other, claimed in studies.items() if other != site]
    credited = min([studies[site], ABOVE_OTHERS * max(others)] if others else [studies[site]])
    return UNITS_A_STUDY * credited


def check_evaluation(
    evaluation: EvaluationCounts, experiment: Experiment, most: int, *, probes: bool
) -> None:
    """Refuse counts that no honest site gives.

    Args:
        evaluation: counts of the site.
        experiment: with the classes of each label.
        most: the most units that the site can have.
        probes: whether linear probes were requested.

    Raises:
        ProtocolError: names what is impossible, without repeating names that the site chose.
    """
    for method, labels in evaluation.counts.items():
        if method == "linear_probe" and not probes:
            raise ProtocolError("counts linear probes that nobody asked for")
        for label, counts in labels.items():
            _check_label(counts, experiment.evaluation.classes(label), most, f"{method}, {label}")


def _check_label(counts: LabelCounts, classes: set[str], most: int, where: str) -> None:
    if not set(counts.histograms) <= set(counts.recalls) <= classes:
        raise ProtocolError(f"counts classes that the experiment lacks ({where})")
    units = {name: recall.units if recall else 0 for name, recall in counts.recalls.items()}
    total = sum(units.values())
    if total > most:
        raise ProtocolError(f"claims {total} test units of at most {most} ({where})")
    for name, recall in counts.recalls.items():
        if recall and recall.mistaken > total - units[name]:
            raise ProtocolError(f"claims more mistakes than units ({where})")
    for name, cells in counts.histograms.items():
        if cells is None:
            continue
        sides = sum(c.positives for c in cells), sum(c.negatives for c in cells)
        if sides != (units[name], total - units[name]) or not _in_order(cells):
            raise ProtocolError(f"has histograms and recalls that contradict each other ({where})")


def _in_order(cells: list[Cell]) -> bool:
    return all(a.stop <= b.start for a, b in pairwise(cells))
