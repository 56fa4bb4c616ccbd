"""Terminal output within 80 columns: progress bars, training log lines and result tables."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mama.system.formats import clock, figure

# Heading, metric and width; a metric without a value is a dash.
COLUMNS = (
    ("loss", "loss", 8),
    ("img-text", "image_text", 9),
    ("2nd-text", "second_text", 9),
    ("img-img", "image_image", 8),
    ("local", "local", 8),
    ("R@1", "recall_at_1", 6),
)


def bars(console: Console, *, shown: bool) -> Progress:
    """Return progress bars with counts, elapsed time and remaining time."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        disable=not shown,
    )


@contextmanager
def stage_bars() -> Iterator[Callable[[str, int, int], None]]:
    """Yield a `progress(stage, done, total)` that draws a bar each stage on a terminal's stderr."""
    console = Console(stderr=True)
    tasks: dict[str, TaskID] = {}
    with bars(console, shown=console.is_terminal) as shown:

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = shown.add_task(stage, total=total)
            shown.update(tasks[stage], completed=done)

        yield progress


class TrainingLines:
    """Table of training steps: losses in fixed order, image-to-report recall, elapsed and left."""

    def __init__(self, total: int, emit: Callable[[str], None]):
        self.total, self.emit = total, emit
        self._width = max(2 * len(str(total)) + 1, len("step"))
        self._first, self._begin = 0, 0.0

    def begin(self, done: int) -> None:
        """Print the headings; `done` steps were taken before a resumption."""
        self._first, self._begin = done, time.monotonic()
        if done:
            self.emit(f"continuing at step {done + 1} of {self.total}")
        headings = "".join(f"{heading:>{width}}" for heading, _, width in COLUMNS)
        self.emit(f"{'step':>{self._width}}{headings}{'time':>9}{'left':>9}")

    def step(self, done: int, figures: Mapping[str, float]) -> None:
        """Print the metrics of the steps since the last line, up to step `done`."""
        taken = time.monotonic() - self._begin
        left = taken * (self.total - done) / max(1, done - self._first)
        shown = "".join(f"{figure(figures.get(name)):>{width}}" for _, name, width in COLUMNS)
        self.emit(
            f"{f'{done}/{self.total}':>{self._width}}{shown}{clock(taken):>9}{clock(left):>9}"
        )


def print_figures(
    console: Console, title: str, evaluation: Mapping[str, Mapping[str, Mapping[str, Any]]]
) -> None:
    """Print {method: {label: metrics}} with the units of each class, and reasons for dashes."""
    table = Table()
    table.add_column("")
    for heading in ("AUC", "balanced\naccuracy"):
        table.add_column(heading, justify="right")
    table.add_column("studies or breasts")
    reasons = []
    for method, labels in evaluation.items():
        for label, figures in labels.items():
            name = f"{method.replace('_', ' ')} {label}"
            units = ", ".join(f"{count} {of}" for of, count in figures.get("classes", {}).items())
            table.add_row(
                name,
                figure(figures["auc"]),
                figure(figures["balanced_accuracy"]),
                units or "none",
            )
            if reason := figures.get("reason"):
                reasons.append(f"- {name}: {reason}")
    console.print(title, soft_wrap=True, markup=False)
    console.print(table)
    for line in reasons:
        console.print(line, soft_wrap=True, markup=False)
