"""The run's report: one HTML file of aggregates that needs nothing else, not even a network.

Sites' names and problems come from outside; every string is escaped, and the page forbids itself scripts
and any request.
"""

import io
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mama.config import Experiment
from mama.errors import ConfigError
from mama.files import write_text
from server.choosing import enrolled
from server.folder import Event, RunFolder
from server.privacy import COLUMNS, of_sites, sentences
from server.quorum import Quorum
from server.standing import standing

TERMS = {
    "image_text": "image – text",
    "second_text": "second view – text",
    "image_image": "view – view",
    "local": "patch – sentence",
}
LABELS = {"density": "Breast density", "suspicious": "Suspicious lesion"}
# Stand for the page's colours in a drawing, so that it follows light and dark.
INK, *SERIES = (f"#0000{number:02x}" for number in range(1, 6))
DASHES = ("-", "--", "-.", ":")


def write_report(folder: Path) -> Path:
    """Write OUT/report.html from OUT/{metrics.json, rounds.jsonl, experiment.yaml}; returns its path.

    Raises:
        ConfigError: the folder holds no outcome of a run.
        IntegrityError: its metrics.json is damaged.
    """
    run = RunFolder(folder)
    outcome = run.metrics()
    if outcome is None:
        raise ConfigError("holds no run's outcome", where=str(folder), fix="Give a run's folder")
    page = render(
        outcome,
        replay(run.events()),
        run.experiment(),
        (folder / "experiment.yaml").read_text(encoding="utf-8"),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


@dataclass
class History:
    """What counts of all starts of a run: the last `round` event and the last evaluation by round number."""

    rounds: dict[int, Event] = field(default_factory=dict)
    evaluations: dict[int, dict[str, Any]] = field(default_factory=dict)
    sites: set[str] = field(default_factory=set)
    shares: dict[str, float] = field(default_factory=dict)
    problems: list[Event] = field(default_factory=list)
    ending: str = ""
    reason: str = ""


def replay(events: Iterable[Event]) -> History:
    """Fold the events of all starts; a start from round r undoes whatever an earlier one did after r."""
    history = History()
    for event in standing(events):
        match event["event"]:
            case "start":
                history.ending = "interrupted"
                history.shares = event.get("shares", {})
            case "roster":
                history.sites |= set(event["sites"])
            case "joined":
                history.sites.add(event["site"])
            case "round":
                history.rounds[event["round"]] = event
                history.sites |= set(event["sites"])
            case "evaluation":
                history.evaluations[event["round"]] = event["federated"]
            case "problem":
                history.problems.append(event)
            case "stopped":
                history.ending, history.reason = "stopped", event["reason"]
            case "finished":
                history.ending = "finished"
    return history


def render(metrics: dict[str, Any], history: History, experiment: Experiment, text: str) -> str:
    """The page; `text` is the experiment as it was written."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"figure": figure, "size": size}
    evaluation, evaluated_after = _evaluation(metrics, history)
    names = history.sites.union(metrics["sites"], history.shares, enrolled(experiment.federation))
    sites = [_site(site, history.rounds, evaluation) for site in sorted(names)]
    return environment.get_template("report.html.j2").render(
        metrics=metrics,
        history=history,
        experiment=experiment,
        text=text,
        rounds=max([metrics["rounds"], *history.rounds]),
        labels=LABELS,
        evaluation=evaluation,
        evaluated_after=evaluated_after,
        terms=TERMS,
        privacy=sentences(metrics.get("privacy")),
        private_columns=COLUMNS,
        private_sites=of_sites(metrics.get("privacy")),
        curves=_curves(history),
        sites=sites,
        absent=_absent(
            [site["name"] for site in sites if not site["answered"]],
            names,
            history.shares | experiment.federation.shares,
            experiment,
        )
        if history.rounds
        else [],
        # metrics.json is of the last start that ended; the events may already know more.
        problems=_problems([*metrics["problems"], *history.problems]),
    )


def figure(value: float | None, digits: int = 3) -> str:
    """A number for people; a dash where there is none."""
    return "–" if value is None else f"{value:,.{digits}f}"


def size(count: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit, digits in (("bytes", 0), ("kB", 1), ("MB", 1)):
        if count < 1000:
            return f"{count:,.{digits}f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def ranges(numbers: Iterable[int]) -> str:
    """Round numbers in few characters: 1, 2, 3, 7 is "1–3, 7"."""
    ordered = sorted(set(numbers))
    cuts = [0, *(i for i, (a, b) in enumerate(pairwise(ordered), 1) if b > a + 1), len(ordered)]
    runs = [ordered[start:stop] for start, stop in pairwise(cuts) if start < stop]
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)


def _evaluation(metrics: dict[str, Any], history: History) -> tuple[dict[str, Any], int | None]:
    """The final evaluation or, in a run without one, the zero-shot part of the last; and its round."""
    final = metrics["evaluation"].get("federated")
    if final and history.ending in ("", "finished"):
        return final, metrics["rounds"]
    if not history.evaluations:
        return {}, None
    last = max(history.evaluations)
    # Probes are fitted for the final evaluation only.
    return {"zero_shot": history.evaluations[last]["zero_shot"]}, last


def _site(site: str, rounds: dict[int, Event], evaluation: dict[str, Any]) -> dict[str, Any]:
    answered = {number: event for number, event in rounds.items() if site in event["sites"]}
    told = [event["sites"][site] for event in answered.values()]
    count = max(1, len(answered))
    zero_shot = evaluation.get("zero_shot", {})
    return {
        "name": site,
        "studies": told[-1]["studies"] if told else None,
        "answered": len(answered),
        "missed": ranges(n for n, event in rounds.items() if site in _missing(event, site)),
        "loss": told[-1]["terms"].get("loss") if told else None,
        "skipped": sum(metrics["skipped"] for metrics in told),
        "seconds": sum(metrics["seconds"] for metrics in told) / count if told else None,
        "kilobytes": sum(event["bytes_up"][site] for event in answered.values()) / count / 1000
        if told
        else None,
        "auc": {label: zero_shot.get(label, {}).get("sites", {}).get(site) for label in LABELS},
    }


def _missing(event: Event, site: str) -> Iterable[str]:
    """Who a round was meant to hear and did not; rounds that do not say so were meant to hear all."""
    return event.get("missing", [] if site in event["sites"] else [site])


def _absent(
    sites: list[str], all_sites: set[str], shares: dict[str, float], experiment: Experiment
) -> list[tuple[str, float]]:
    """Sites that were in no round, with their public shares in per cent."""
    quorum = Quorum(experiment.federation, shares)
    return [(site, 100 * quorum.share([site], all_sites)) for site in sites]


def _problems(problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The problems with equal ones of several rounds in one line, by their first round."""
    rounds = defaultdict(set)
    for problem in problems:
        rounds[problem["site"], problem["problem"]].add(problem["round"])
    return [
        {"site": site, "problem": problem, "rounds": ranges(numbers)}
        for (site, problem), numbers in sorted(rounds.items(), key=lambda item: min(item[1]))
    ]


def _curves(history: History) -> list[tuple[str, Markup]]:
    """Captions and drawings: the loss, its terms, and zero-shot AUC where it was measured often.

    Sites of a private run tell no loss.
    """
    return [*_loss_curves(history), *_evaluation_curves(history)]


def _loss_curves(history: History) -> list[tuple[str, Markup]]:
    if not any(event["terms"] for event in history.rounds.values()):
        return []
    numbers = sorted(history.rounds)
    events = [history.rounds[number] for number in numbers]
    losses = [
        [m["terms"]["loss"] for m in event["sites"].values() if "loss" in m["terms"]]
        for event in events
    ]
    return [
        (
            "Weighted sum of the terms, median over sites; the band spans the sites. "
            "It jumps where a term joins.",
            _draw(
                "Loss",
                {"loss": _points(numbers, [event["terms"].get("loss") for event in events])},
                band=[(n, min(v), max(v)) for n, v in zip(numbers, losses, strict=True) if v],
            ),
        ),
        (
            "Each term before weighting, median over sites; a late term's curve begins where it joins.",
            _draw(
                "Terms of the loss",
                {
                    word: _points(numbers, [event["terms"].get(term) for event in events])
                    for term, word in TERMS.items()
                },
            ),
        ),
    ]


def _evaluation_curves(history: History) -> list[tuple[str, Markup]]:
    measured = sorted(history.evaluations)
    if len(measured) < 2:
        return []
    lines = {
        word: _points(
            measured, [history.evaluations[n]["zero_shot"][label]["auc"] for n in measured]
        )
        for label, word in LABELS.items()
    }
    caption = "On the sites' test studies, mean of the sites' own AUCs; 0.5 is guessing."
    return [(caption, _draw("Zero-shot AUC", lines, guess=0.5))]


Points = list[tuple[int, float]]


def _points(numbers: list[int], values: list[float | None]) -> Points:
    return [(n, v) for n, v in zip(numbers, values, strict=True) if v is not None]


def _draw(
    title: str,
    lines: dict[str, Points],
    *,
    band: list[tuple[int, float, float]] = [],  # noqa: B006
    guess: float | None = None,
) -> Markup:
    """A line chart over rounds as SVG that stands inside a page."""
    # Here, because the server's start should not wait for a drawing at its end.
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    style: dict[Any, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": title,
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        **{f"{part}.color": INK for part in ("text", "xtick", "ytick")},
        **{f"axes.{part}color": INK for part in ("edge", "label")},
    }
    with rc_context(style):
        chart = Figure(figsize=(4.8, 3.2), layout="constrained")
        axes = chart.add_subplot()
        axes.set_title(title, loc="left", fontweight="bold", fontsize=11)
        axes.set_xlabel("round")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=INK, alpha=0.15, linewidth=0.7)
        if len(band) > 1:
            x, low, high = zip(*band, strict=True)
            axes.fill_between(x, low, high, color=SERIES[0], alpha=0.18, linewidth=0)
        if guess is not None:
            axes.axhline(guess, color=INK, linewidth=0.8, alpha=0.6)
        for (name, points), colour, dash in zip(lines.items(), SERIES, DASHES, strict=False):
            if points:
                x, y = zip(*points, strict=True)
                axes.plot(x, y, dash, color=colour, label=name, marker="o", markersize=2.5)
        if len(axes.lines) > 1:
            chart.legend(frameon=False, ncols=2, fontsize=10, loc="outside lower left")
        text = io.StringIO()
        chart.savefig(
            text,
            format="svg",
            transparent=True,
            metadata={"Date": None, "Creator": None, "Format": None, "Type": None},
        )
    return Markup(_inline(text.getvalue(), title))


def _inline(svg: str, title: str) -> str:
    """An SVG file's element: its own ids, the page's colours, no fixed size."""
    own = re.sub(r"\W", "-", title.lower())
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="|url\(#|href="#', rf"\g<0>{own}-", svg)
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img" aria-label="{title}">', svg
    )
    for name, colour in {"ink": INK, **{f"c{i}": c for i, c in enumerate(SERIES, 1)}}.items():
        svg = svg.replace(colour, f"var(--{name})")
    return svg
