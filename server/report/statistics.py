"""Differences between the sites' data, from the statistics that they released.

A suppressed count lies between nothing and all that its table lacks, so every share is a range, and
the total variation distance of two sites is at least that of the nearest values in their ranges.
What is said to differ does differ, as far as the sites' answers are true.
"""

from collections.abc import Mapping
from typing import NamedTuple

from pydantic import ValidationError

from mama.exchange.metrics import ATTRIBUTES, Attribute, DataStatistics, Table
from mama.system.formats import percent
from server.run.history import RunHistory

# Least total variation distance to the others at which a site is said to differ. Of 50 patients
# drawn from one distribution over four categories, the distance is 0.1 on average.
DIFFERS = 0.2


class Share(NamedTuple):
    """Share of a category; `low` and `high` are equal unless it is suppressed."""

    low: float
    high: float


class Difference(NamedTuple):
    """A site whose share of a category differs most from the mean share of the other sites.

    `distance` is the least total variation distance of the attribute. The shares are the nearest
    values that the suppressed counts leave possible.
    """

    site: str
    attribute: Attribute
    distance: float
    category: str
    share: float
    others: float

    def __str__(self) -> str:
        return (
            f"{self.site}: {self.attribute} {self.category} {percent(self.share)} against "
            f"{percent(self.others)} at the others"
        )


def statistics_in(history: RunHistory) -> dict[str, DataStatistics]:
    """Return the statistics in a run's events by site; lines of another version are left out."""
    found = {}
    for site, event in sorted(history.statistics.items()):
        try:
            if event.statistics is not None:
                found[site] = DataStatistics.model_validate(event.statistics)
        except ValidationError:
            continue
    return found


def without_statistics(history: RunHistory) -> dict[str, str]:
    """Return the reason by site that answered without statistics."""
    return {
        site: event.problem or "its policy releases none"
        for site, event in sorted(history.statistics.items())
        if event.statistics is None
    }


def shares(table: Table) -> dict[str, Share]:
    """Return the share of each category that is in a table."""
    shown = sum(count for count in table.cells.values() if count is not None)
    whole = max(table.total, shown) or 1
    rest = (whole - shown) / whole
    return {
        name: Share(0.0, rest) if count is None else Share(count / whole, count / whole)
        for name, count in table.cells.items()
    }


def differences(found: Mapping[str, DataStatistics], bound: float = DIFFERS) -> list[Difference]:
    """Return where each site differs from the mean shares of the others, in order of the sites.

    Each site counts once, since the size of a site is its own claim. A site whose whole table is
    suppressed is left out.
    """
    made = []
    for attribute in ATTRIBUTES:
        tables = {
            site: shares(one.tables[attribute])
            for site, one in found.items()
            if attribute in one.tables
        }
        for site, own in tables.items():
            others = _mean([table for other, table in tables.items() if other != site])
            difference = others and _difference(site, attribute, own, others)
            if difference and difference.distance > bound:
                made.append(difference)
    return sorted(made, key=lambda one: one.site)


def _mean(tables: list[dict[str, Share]]) -> dict[str, Share]:
    names = dict.fromkeys(name for table in tables for name in table)
    none = Share(0.0, 0.0)
    return {
        name: Share(
            sum(table.get(name, none).low for table in tables) / len(tables),
            sum(table.get(name, none).high for table in tables) / len(tables),
        )
        for name in names
    }


def _difference(
    site: str, attribute: Attribute, own: dict[str, Share], others: dict[str, Share]
) -> Difference:
    none = Share(0.0, 0.0)
    pairs = {name: (own.get(name, none), others.get(name, none)) for name in own | others}
    more = {name: max(0.0, here.low - there.high) for name, (here, there) in pairs.items()}
    less = {name: max(0.0, there.low - here.high) for name, (here, there) in pairs.items()}
    # The distance is the sum of either side; ranges may leave the other one smaller.
    distance = max(sum(more.values()), sum(less.values()))
    most = max(pairs, key=lambda name: max(more[name], less[name]))
    here, there = pairs[most]
    share, mean = (here.low, there.high) if more[most] else (here.high, there.low)
    return Difference(site, attribute, distance, most, share, mean)
