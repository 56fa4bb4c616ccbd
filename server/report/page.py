"""Run report: one self-contained HTML file of aggregates.

Sites' names and problems come from outside; every string is escaped, and the page forbids itself
scripts and any request.
"""

from collections import defaultdict
from pathlib import Path
from typing import Any

from mama.config import Experiment
from mama.errors import ConfigError
from mama.system.files import write_text
from mama.system.formats import ranges
from mama.system.pages import render as render_page
from server.cohort.quorum import Quorum
from server.cohort.sampling import enrolled
from server.report.charts import LABELS, TERMS, curves
from server.report.gain import gain
from server.report.privacy import COLUMNS, of_sites, sentences
from server.report.statistics import DIFFERS, differences, statistics_in, without_statistics
from server.report.statistics_view import alike, sections
from server.run.events import RoundDone, Stopped
from server.run.folder import RunFolder
from server.run.history import RunHistory


def write_report(folder: Path) -> Path:
    """Write report.html from metrics.json, rounds.jsonl and experiment.yaml; return its path.

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
        run.history(),
        run.experiment(),
        (folder / "experiment.yaml").read_text(encoding="utf-8"),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def render(metrics: dict[str, Any], history: RunHistory, experiment: Experiment, text: str) -> str:
    """Return the page; `text` is the experiment as written."""
    evaluation, evaluated_after = _evaluation(metrics, history)
    names = history.seen.union(metrics["sites"], history.shares, enrolled(experiment.participation))
    sites = [_site(site, history.rounds, evaluation) for site in sorted(names)]
    data = statistics_in(history)
    for site in sites:
        known = history.sites.get(site["name"])
        site["revoked"] = known is not None and known.revoked
    return render_page(
        Path(__file__).with_name("report.html.j2"),
        metrics=metrics,
        history=history,
        ending=_ending(history) or metrics["status"],
        reason=history.ending.reason if isinstance(history.ending, Stopped) else "",
        experiment=experiment,
        text=text,
        rounds=max([metrics["rounds"], *history.rounds]),
        labels=LABELS,
        evaluation=evaluation,
        evaluated_after=evaluated_after,
        gain=None
        if evaluated_after is None
        else gain(
            {number: one.federated for number, one in history.evaluations.items()},
            evaluation,
            evaluated_after,
            LABELS,
        ),
        terms=TERMS,
        privacy=sentences(metrics.get("privacy")),
        private_columns=COLUMNS,
        private_sites=of_sites(metrics.get("privacy")),
        curves=curves(history),
        data=sections(data),
        differs=100 * DIFFERS,
        differences=[str(one) for one in differences(data)] or [alike(len(data))],
        no_data=without_statistics(history),
        sites=sites,
        absent=_absent(
            [site["name"] for site in sites if not site["answered"]],
            names,
            history.shares | experiment.participation.shares,
            experiment,
        )
        if history.rounds
        else [],
        # metrics.json is of the last start that ended; the events may already know more.
        problems=_problems(
            [*metrics["problems"], *(problem.record() for problem in history.problems)]
        ),
    )


def _evaluation(metrics: dict[str, Any], history: RunHistory) -> tuple[dict[str, Any], int | None]:
    """Return the final evaluation, else the zero-shot part of the last one, and its round."""
    final = metrics["evaluation"].get("federated")
    if final and _ending(history) in ("", "finished"):
        return final, metrics["rounds"]
    if not history.evaluations:
        return {}, None
    last = max(history.evaluations)
    # Probes are fitted for the final evaluation only.
    return {"zero_shot": history.evaluations[last].federated["zero_shot"]}, last


def _ending(history: RunHistory) -> str:
    """Return `finished`, `stopped` or `interrupted`; empty where no start is known."""
    if history.ending:
        return history.ending.kind
    return "interrupted" if history.start else ""


def _site(site: str, rounds: dict[int, RoundDone], evaluation: dict[str, Any]) -> dict[str, Any]:
    answered = {number: event for number, event in rounds.items() if site in event.sites}
    metrics = [event.sites[site] for event in answered.values()]
    count = max(1, len(answered))
    zero_shot = evaluation.get("zero_shot", {})
    bytes_up = sum(event.bytes_up[site] for event in answered.values())
    return {
        "name": site,
        "studies": metrics[-1]["studies"] if metrics else None,
        "answered": len(answered),
        "missed": ranges(n for n, event in rounds.items() if site in event.missing),
        "loss": metrics[-1]["terms"].get("loss") if metrics else None,
        "skipped": sum(one["skipped"] for one in metrics),
        # None under privacy.mode patient, where a site does not say how long it trained.
        "seconds": sum(one["seconds"] for one in metrics) / count or None,
        "kilobytes": bytes_up / count / 1000 if metrics else None,
        "auc": {label: zero_shot.get(label, {}).get("sites", {}).get(site) for label in LABELS},
    }


def _absent(
    sites: list[str], all_sites: set[str], shares: dict[str, float], experiment: Experiment
) -> list[tuple[str, float]]:
    """Sites that were in no round, with their public shares in per cent."""
    quorum = Quorum(experiment.participation, shares)
    return [(site, 100 * quorum.share([site], all_sites)) for site in sites]


def _problems(problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the problems by first round; equal ones of several rounds share a line."""
    rounds = defaultdict(set)
    for problem in problems:
        rounds[problem["site"], problem["problem"]].add(problem["round"])
    return [
        {"site": site, "problem": problem, "rounds": ranges(numbers)}
        for (site, problem), numbers in sorted(rounds.items(), key=lambda item: min(item[1]))
    ]
