"""metrics.json: what came of a run, as its events tell it."""

from collections.abc import Collection, Mapping, Sequence
from statistics import median
from typing import Any

from mama.exchange.metrics import TrainingMetrics
from mama.exchange.protocol import Description
from server.folder import Event
from server.standing import rounds_of


def outcome(events: Sequence[Event], base: Description) -> dict[str, Any]:
    """Problems, bytes and times of a run; a round that a restart undid does not count."""
    rounds = rounds_of(events).values()
    return {
        "problems": [
            {key: event[key] for key in ("round", "site", "problem", "code")}
            for event in events
            if event["event"] == "problem"
        ],
        "exchange": {
            "bytes_up_per_site_round": _mean_size(rounds, "bytes_up"),
            "bytes_down_per_site_round": _mean_size(rounds, "bytes_down"),
            "trained_parameters": base.trained_parameters,
            "frozen_parameters": base.frozen_parameters,
        },
        "timing": {
            "train_s": sum(event["train_s"] for event in rounds),
            "overhead_s": sum(event["seconds"] - event["train_s"] for event in rounds),
        },
    }


def terms(metrics: Collection[TrainingMetrics]) -> dict[str, float]:
    """The median of each loss over sites that have it: one site can claim any loss, and any number of studies."""
    names = sorted({name for of_site in metrics for name in of_site.terms})
    return {
        name: median(of_site.terms[name] for of_site in metrics if name in of_site.terms)
        for name in names
    }


def training_seconds(metrics: Collection[TrainingMetrics], at_once: int) -> float:
    """What a round must take at least to train, `at_once` sites at a time."""
    seconds = [of_site.seconds for of_site in metrics]
    return max(max(seconds), sum(seconds) / at_once)


def mean_auc(evaluation: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> float | None:
    """By which evaluations of one run are compared: the mean zero-shot AUC over labels that have one."""
    areas = [figures["auc"] for figures in evaluation.get("zero_shot", {}).values()]
    present = [area for area in areas if area is not None]
    return sum(present) / len(present) if present else None


def _mean_size(rounds: Collection[Event], way: str) -> int:
    sizes = [size for event in rounds for size in event[way].values()]
    return round(sum(sizes) / len(sizes)) if sizes else 0
