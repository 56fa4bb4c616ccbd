"""Terminal output of a simulation: progress and outcome."""

from pathlib import Path
from typing import Any, Self

from rich.console import Console
from rich.progress import TaskID
from rich.table import Table

from mama.system.console import bars, print_figures
from mama.system.formats import counted, figure
from server.report.privacy import COLUMNS, of_sites, sentences
from server.run.events import (
    Evaluated,
    Event,
    Problem,
    RoundDone,
    SitesKnown,
    Start,
    UpdateAccepted,
)
from sim.run import Callbacks


class Display:
    """Progress bars on a terminal, otherwise one line per stage and round; nothing if quiet."""

    def __init__(self, *, quiet: bool):
        self.console = Console(quiet=quiet, stderr=True, highlight=False)
        self.bars = self.console.is_terminal and not quiet
        self.progress = bars(self.console, shown=self.bars)
        self._tasks: dict[str, TaskID] = {}
        self._rounds = self._sites = self._answers = 0

    def __enter__(self) -> Self:
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def callbacks(self) -> Callbacks:
        """Return the callbacks for a simulation."""
        return Callbacks(stage=self._stage, event=self._event, step=self._step, note=self._line)

    def outcome(self, metrics: dict[str, Any], folder: Path) -> None:
        """Print metrics and location of the report, also if quiet."""
        console = Console(highlight=False)
        rounds = counted(metrics["rounds"], "round")
        title = f"{metrics['name']}: {metrics['status']} after {rounds}"
        print_figures(console, title, metrics["evaluation"]["federated"])
        privacy = metrics.get("privacy")
        for line in sentences(privacy):
            console.print(line)
        if rows := of_sites(privacy):
            console.print(_table(rows))
        for problem in metrics["problems"]:
            console.print(f"round {problem['round']}, {problem['site']}: {problem['problem']}")
        console.print(f"report: {folder / 'report.html'}", soft_wrap=True)
        sites = folder / "sites" / "NAME" / "site_report.html"
        console.print(f"sites:  {sites} (with images)", soft_wrap=True)
        console.print(f"model:  {folder / 'final'}", soft_wrap=True)

    def _line(self, text: str) -> None:
        self.console.print(text, soft_wrap=True, markup=False)

    def _stage(self, name: str, done: int, total: int) -> None:
        if not self.bars:
            if done == total:
                self._line(f"{name}: {done}/{total}")
            return
        self._bar(name, done, total)

    def _step(self, site: str, step: int) -> None:
        if self.bars:
            self._bar(f"  {site}", step + 1, None)

    def _bar(self, name: str, done: int, total: int | None) -> None:
        if name not in self._tasks:
            self._tasks[name] = self.progress.add_task(name, total=total)
        self.progress.update(self._tasks[name], completed=done, total=total)

    def _event(self, event: Event) -> None:
        match event:
            case Start():
                self._rounds = event.rounds
                if 0 < event.round < self._rounds:
                    self._line(f"continuing at round {event.round + 1} of {self._rounds}")
                if self.bars:
                    self._bar("rounds", event.round, self._rounds)
            case SitesKnown():
                self._sites = len(event.sites)
                self._line(f"sites: {', '.join(event.sites)}")
            case UpdateAccepted():
                self._answers += 1
                if self.bars:
                    self._bar("  sites that answered", self._answers, self._sites)
            case RoundDone():
                self._answers = 0
                if self.bars:
                    self._bar("rounds", event.round, self._rounds)
                loss = event.terms.get("loss")
                shown = "" if loss is None else f"  loss {loss:.3f}"
                sites = len(event.sites)
                self._line(f"round {event.round:>3}  {sites} sites  {event.seconds:5.1f} s{shown}")
            case Problem():
                self._line(f"round {event.round}, {event.site}: {event.problem}")
            case Evaluated():
                figures = event.federated["zero_shot"]
                shown = "  ".join(f"{n} AUC {figure(f['auc'])}" for n, f in figures.items())
                self._line(f"zero-shot after round {event.round}: {shown}")


def _table(rows: list[tuple[str, ...]]) -> Table:
    """Return the table of privacy spent by each site's patients."""
    table = Table(title="epsilon of each site's patients")
    for column in COLUMNS:
        table.add_column(column, justify="left" if column == "site" else "right")
    for row in rows:
        table.add_row(*row)
    return table
