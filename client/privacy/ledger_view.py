"""Ledger views for people: privacy spent per run, remaining budget, and use of patient slots."""

import math
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from rich.table import Table

from client.privacy.ledger import Entry, SiteLedger
from client.privacy.round import roster_file
from client.site.config import SiteFile
from mama.errors import ConfigError
from mama.privacy.accounting import Charge, prv_epsilon, replace_one_epsilon
from mama.privacy.slots import PatientSlots
from mama.system.files import replacing
from mama.system.formats import percent

# Number of points that draw the same curve as all steps.
POINTS = 2000
DRAWN = (".png", ".svg", ".pdf")


def table(ledger: SiteLedger) -> Table:
    """Return a table with a row per stretch of equal steps and the total epsilon after it."""
    delta = ledger.budget.delta
    result = Table(title=f"private steps; epsilon at delta {delta:g}, by RDP and by PRV, zero-out")
    for column in ("run", "rounds", "steps", "z", "q", "dataset", "RDP", "PRV", "replaced"):
        # Names are not truncated: a run is looked up by its name.
        text = column in ("run", "dataset")
        result.add_column(column, justify="left" if text else "right", overflow="fold")
    charges: list[Charge] = []
    for entries in _stretches(ledger.entries):
        first, last = entries[0], entries[-1]
        rounds = f"{first.round}-{last.round}" if first.round != last.round else f"{first.round}"
        steps = sum(entry.steps for entry in entries)
        figures = (f"{steps}", f"{first.z:.4g}", f"{first.q:.4g}")
        charges.append((first.z, first.q, steps))
        epsilons = last.epsilon, prv_epsilon(charges, delta), replace_one_epsilon(charges, delta)
        result.add_row(first.run, rounds, *figures, first.dataset, *map(_epsilon, epsilons))
    return result


def totals(ledger: SiteLedger) -> Iterator[str]:
    """Return the privacy loss of one patient over all private runs."""
    charges, budget = ledger.charges, ledger.budget
    yield (
        f"epsilon {ledger.epsilon():.3f} of {budget.epsilon:g} at delta {budget.delta:g}, after "
        + (f"{sum(steps for _, _, steps in charges)} steps charged")
    )
    if ledger.torn:
        yield (
            f"  {ledger.torn} torn by a crash: charged like the last step, with the next one at "
            "the latest"
        )
    yield f"  by PRV, a tighter account: {_epsilon(prv_epsilon(charges, budget.delta))}"
    replaced = replace_one_epsilon(charges, budget.delta)
    yield f"  one patient replaced by another: {_epsilon(replaced)}"
    yield f"head {ledger.head}"


def _epsilon(value: float | None) -> str:
    if value is None:
        return "not available"
    return f"{value:.3f}" if math.isfinite(value) else "no bound"


def slot_usage(site: SiteFile, group_size: int | None) -> str:
    """Return the use of patient slots and, for groups of a size, the cost of empty ones."""
    roster = PatientSlots.load(roster_file(site))
    if not roster.slots:
        return "no roster yet"
    filled = sum(patient is not None for patient in roster.slots)
    usage = f"{filled} of {len(roster.slots)} slots filled"
    if group_size is None:
        return f"{usage}; --group-size shows the cost of empty slots"
    if group_size > len(roster.slots):
        return f"{usage}: too few for one group of {group_size}"
    lost = percent(roster.lost_share(group_size))
    return f"{usage}: {lost} of groups of {group_size} have an empty slot and contribute nothing"


def plot(ledger: SiteLedger, path: Path) -> Path:
    """Plot epsilon over the charged steps, and the budget, in the format of the path's suffix.

    Raises:
        ConfigError: the format is not supported.
    """
    if path.suffix.lower() not in DRAWN:
        raise ConfigError("cannot be drawn", where=str(path), fix=f"End it in {', '.join(DRAWN)}")
    from matplotlib.figure import Figure

    step, points = 0, [(0, 0.0)]
    for entry in ledger.entries:
        step += entry.steps
        points.append((step, entry.epsilon))
    points = [*points[:: max(1, len(points) // POINTS)], points[-1]]
    chart = Figure(figsize=(6, 3.6), layout="constrained")
    axes = chart.add_subplot()
    axes.step(*zip(*points, strict=True), where="post", color="#0b62a8", label="spent")
    axes.axhline(ledger.budget.epsilon, color="#b3261e", linestyle="--", label="budget")
    axes.set(xlabel="private steps charged", ylabel=f"epsilon at delta {ledger.budget.delta:g}")
    axes.set_ylim(bottom=0)
    axes.legend(frameon=False)
    with replacing(path) as temporary:
        chart.savefig(temporary, format=path.suffix.removeprefix(".") or "png", dpi=150)
    return path


def _stretches(entries: list[Entry]) -> Iterator[list[Entry]]:
    for _, same in groupby(entries, key=lambda e: (e.run, e.z, e.q, e.dataset)):
        yield list(same)
