"""Tables of the sites' statistics, for a terminal and for the run report."""

from collections.abc import Mapping
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.table import Table as RichTable

from mama.exchange.metrics import CATEGORIES, UNKNOWN, Attribute, DataStatistics, Table
from mama.system.formats import percent
from server.report.statistics import DIFFERS, shares

SUPPRESSED = "*"
# Attributes of which the terminal shows the largest category alone.
BRIEF: tuple[Attribute, ...] = ("BI-RADS", "vendor", "age")


def of_status(whole: Mapping[str, Any]) -> list[RichTable | str]:
    """Return the table of a status and its lines on differences; empty without statistics."""
    found = {site: DataStatistics.model_validate(one) for site, one in whole["statistics"].items()}
    if not found:
        return []
    silent = ", ".join(whole["no_statistics"])
    return [
        table(found),
        *(whole["differences"] or [alike(len(found))]),
        *([f"no statistics: {silent}"] if silent else []),
    ]


def alike(sites: int) -> str:
    """Return the sentence for sites of which none differs."""
    if sites < 2:
        return "no other site to compare with"
    return f"no site differs from the others by {percent(DIFFERS)} or more"


def table(found: Mapping[str, DataStatistics]) -> RichTable:
    """Return a table with a row per site, for a terminal 80 columns wide."""
    made = RichTable(
        title="training data, % of patients",
        caption="*: too few patients to tell. All categories are in report.html",
        caption_justify="left",
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    made.add_column("site", overflow="ellipsis", no_wrap=True, max_width=14)
    made.add_column("patients", justify="right", no_wrap=True)
    densities = _named("density", found)
    heading = "/".join(densities).replace(UNKNOWN, "?")
    made.add_column(f"density\n{heading}", no_wrap=True)
    for name in BRIEF:
        made.add_column(f"{name},\nmost", overflow="ellipsis", no_wrap=True)
    for site, one in found.items():
        density = one.tables.get("density")
        made.add_row(
            site,
            str(one.patients),
            "/".join(_cells(density, densities)) if density else SUPPRESSED,
            *(_largest(one.tables.get(name)) for name in BRIEF),
        )
    return made


def sections(found: Mapping[str, DataStatistics]) -> list[dict[str, Any]]:
    """Return for each attribute its name, its columns, and a row of per cents per site."""
    made: list[dict[str, Any]] = []
    for attribute in CATEGORIES:
        columns = _named(attribute, found)
        rows = [
            (site, _cells(one.tables[attribute], columns))
            for site, one in found.items()
            if attribute in one.tables
        ]
        if rows:
            made.append({"name": attribute, "columns": columns, "rows": rows})
    return made


def _named(attribute: Attribute, found: Mapping[str, DataStatistics]) -> list[str]:
    """Return the categories that any site has, in the order of the list."""
    tables = [one.tables[attribute] for one in found.values() if attribute in one.tables]
    return [n for n in CATEGORIES[attribute] if any(n in one.cells for one in tables)]


def _cells(table: Table, columns: list[str]) -> list[str]:
    by_name, cells = shares(table), table.cells
    return [
        SUPPRESSED
        if name in cells and cells[name] is None
        else f"{100 * by_name[name].low:.0f}"
        if name in cells
        else "0"
        for name in columns
    ]


def _largest(table: Table | None) -> str:
    known = {name: share.low for name, share in shares(table).items()} if table else {}
    name = max(known, key=lambda name: known[name], default=None)
    return f"{name} {100 * known[name]:.0f}" if name and known[name] else SUPPRESSED
