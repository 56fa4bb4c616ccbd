"""metrics.json: the outcome of a run."""

from collections.abc import Collection, Iterable, Mapping
from statistics import median
from typing import Any

from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Description
from server.run.history import RunHistory


def outcome(history: RunHistory, base: Description) -> dict[str, Any]:
    """Return problems, bytes and times of a run; a round that a restart undid does not count."""
    rounds = history.rounds.values()
    return {
        "problems": [
            {"round": one.round, "site": one.site, "problem": one.problem, "code": one.code}
            for one in history.problems
        ],
        "exchange": {
            "bytes_up_per_site_round": _mean_size(one.bytes_up for one in rounds),
            "bytes_down_per_site_round": _mean_size(one.bytes_down for one in rounds),
            "trained_parameters": base.trained_parameters,
            "frozen_parameters": base.frozen_parameters,
        },
        "timing": {
            "train_s": sum(one.train_s for one in rounds),
            "overhead_s": sum(one.seconds - one.train_s for one in rounds),
        },
    }


def terms(metrics: Collection[TrainingMetrics]) -> dict[str, float]:
    """Return the median of each loss over the sites that report it.

    A weighted mean would trust one site's claim of any loss and any number of studies.
    """
    names = sorted({name for of_site in metrics for name in of_site.terms})
    return {
        name: median(of_site.terms[name] for of_site in metrics if name in of_site.terms)
        for name in names
    }


def training_seconds(metrics: Collection[TrainingMetrics], at_once: int) -> float:
    """Return the least training time of a round with `at_once` sites at a time."""
    seconds = [of_site.seconds for of_site in metrics]
    return max(max(seconds), sum(seconds) / at_once)


def mean_auc(evaluation: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> float | None:
    """Return the mean zero-shot AUC over labels that have one, to compare evaluations."""
    areas = [figures["auc"] for figures in evaluation.get("zero_shot", {}).values()]
    present = [area for area in areas if area is not None]
    return sum(present) / len(present) if present else None


def _mean_size(by_site: Iterable[Mapping[str, int]]) -> int:
    sizes = [size for one in by_site for size in one.values()]
    return round(sum(sizes) / len(sizes)) if sizes else 0
