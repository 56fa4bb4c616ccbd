"""Tables of an evaluation for the terminal, within 80 columns."""

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from mama.system.formats import DASH, figure, percent, signed


def print_scorecard(console: Console, task: str, card: Mapping[str, Any]) -> None:
    """Print the figures of a task with their intervals and, if given, another model's and groups.

    Args:
        console: where to print.
        task: name of the task.
        card: see `mama.evaluation.scorecard.scorecard`; `by` has the cards of groups by column.
    """
    console.print(f"\n{task}: {_units(card)}", soft_wrap=True, markup=False)
    against = card.get("against", {})
    table = Table()
    for heading in ("", "value", "95 % interval"):
        table.add_column(heading, justify="right" if heading else "left")
    for heading in ("other\nmodel", "difference", "95 % interval") if against else ():
        table.add_column(heading, justify="right")
    for name, found in card["figures"].items():
        row = [_heading(name), *_value(found)]
        if against:
            difference = against[name]["difference"]
            row += [figure(against[name]["other"]), *_value(difference, signed)]
        table.add_row(*row)
    console.print(table)
    if reason := card.get("reason"):
        console.print(f"- {reason}", soft_wrap=True, markup=False)
    if curve := card.get("curve"):
        _print_curve(console, curve)
    for column, cards in card.get("by", {}).items():
        groups = Table()
        for heading in (column, "AUC", "95 % interval", "balanced\naccuracy", "units"):
            groups.add_column(heading, justify="left" if heading in (column, "units") else "right")
        for name, of in cards.items():
            accuracy, _ = _value(of["figures"]["balanced_accuracy"])
            groups.add_row(name, *_value(of["figures"]["auc"]), accuracy, _units(of))
        console.print(groups)


def _units(card: Mapping[str, Any]) -> str:
    return ", ".join(f"{count} {of}" for of, count in card["classes"].items()) or "none"


def _heading(name: str) -> str:
    return {
        "auc": "AUC",
        "auprc": "AUPRC",
        "balanced_accuracy": "balanced accuracy",
        "sensitivity_at_90_specificity": "sensitivity at specificity 0.90",
        "specificity_at_90_sensitivity": "specificity at sensitivity 0.90",
        "pf1": "pF1",
        "ece": "calibration error",
    }[name]


def _value(
    found: Mapping[str, float | None] | None, show: Callable[[float | None], str] = figure
) -> tuple[str, str]:
    """Return a value and its interval as text."""
    if found is None:
        return show(None), show(None)
    low, high = found["low"], found["high"]
    interval = show(None) if low is None else f"{show(low)} to {show(high)}"
    return show(found["value"]), interval


def print_retrieval(console: Console, found: Mapping[str, Any]) -> None:
    """Print the recalls of `mama.evaluation.protocols.retrieval.retrieval` in both directions."""
    studies, reports = found["studies"], found["reports"]
    console.print(f"\nretrieval: {studies} studies, {reports} different reports", markup=False)
    if reason := found.get("reason"):
        console.print(f"- {reason}", soft_wrap=True, markup=False)
        return
    table = Table()
    for heading in ("", "recall", "95 % interval", "by chance"):
        table.add_column(heading, justify="right" if heading else "left")
    for direction in ("image_to_report", "report_to_image"):
        for k, recall in found[direction].items():
            name = f"{direction.replace('_', ' ')}, first {k}"
            table.add_row(name, *_value(recall), figure(recall["chance"]))
    console.print(table)


def print_pointing(console: Console, found: Mapping[str, Any]) -> None:
    """Print the hit rates of `mama.evaluation.pointing.pointing`, and the energy inside boxes."""
    images, patients = found["images"], found["patients"]
    console.print(f"\npointing: {images} images with boxes, {patients} patients", markup=False)
    if found["hit_rate"] is not None:
        table = Table()
        for heading in ("", "hits", "95 % interval", "less\nbrightest", "95 % interval", "energy"):
            table.add_column(heading, justify="right" if heading else "left")
        for name, rate in found["hit_rate"].items():
            gain, energy = (
                found[key].get(name) for key in ("gain_over_brightest", "energy_inside")
            )
            more = (*_value(gain, signed), _value(energy)[0]) if energy else ("", "", "")
            table.add_row(name.replace("_", " "), *_value(rate), *more)
        console.print(table)
    if reason := found.get("reason"):
        console.print(f"- {reason}", soft_wrap=True, markup=False)


def _print_curve(console: Console, curve: Mapping[str, Any]) -> None:
    table = Table()
    for heading in ("labelled patients", "AUC", "least to most", "balanced\naccuracy"):
        table.add_column(heading, justify="right" if heading[0] in "Albs" else "left")
    for share, at in curve.items():
        area, accuracy = at["figures"]["auc"], at["figures"]["balanced_accuracy"]
        table.add_row(
            f"{percent(float(share))}: {at['patients']}",
            figure(area and area["mean"]),
            f"{figure(area['least'])} to {figure(area['most'])}" if area else DASH,
            figure(accuracy and accuracy["mean"]),
        )
    console.print(table)
    for share, at in curve.items():
        if reason := at.get("reason"):
            console.print(f"- {percent(float(share))}: {reason}", soft_wrap=True, markup=False)
