"""The checks of a site's evaluation before it counts: that it is possible at all.

A site can lie about its accuracy; nothing here finds that out. It cannot claim classes that the experiment lacks, or
so many units that the others' no longer matter.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from mama.config import Experiment
from mama.errors import ProtocolError
from mama.exchange.metrics import Cell, EvaluationCounts, LabelCounts
from server.asking import Arrival

# Units (studies or breasts) of the test split for each training study: two breasts, and five test studies.
UNITS_A_STUDY = 10
# How many times as many training studies as the largest other site has a site is credited with.
ABOVE_OTHERS = 4


def evaluations(
    arrivals: Iterable[Arrival], experiment: Experiment, studies: Mapping[str, int], probes: bool
) -> Iterator[tuple[str, EvaluationCounts | ProtocolError]]:
    """Each site's evaluation that came in time, or the reason why it does not count.

    Args:
        studies: the training studies that the sites claim.
        probes: whether linear probes were asked for.
    """
    for arrival in arrivals:
        answer = arrival.reply.answer
        if arrival.when != "time" or not answer or not answer.evaluation:
            continue
        try:
            most = most_units(arrival.site, studies)
            check_evaluation(answer.evaluation, experiment, most, probes=probes)
        except ProtocolError as error:
            yield arrival.site, error
        else:
            yield arrival.site, answer.evaluation


def most_units(site: str, studies: Mapping[str, int]) -> int:
    """The most test units that a site can have, by the training studies that it and the others claim."""
    others = [claimed for other, claimed in studies.items() if other != site]
    credited = min([studies[site], ABOVE_OTHERS * max(others)] if others else [studies[site]])
    return UNITS_A_STUDY * credited


def check_evaluation(
    evaluation: EvaluationCounts, experiment: Experiment, most: int, *, probes: bool
) -> None:
    """Refuse counts that no honest site gives.

    Args:
        most: the most units that the site can have.
        probes: whether linear probes were asked for.

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
