"""Charts of the run report, as SVG elements in the page's colours."""

import io
import re
from typing import Any

from markupsafe import Markup

from server.run.history import RunHistory

TERMS = {
    "image_text": "image – text",
    "second_text": "second view – text",
    "image_image": "view – view",
    "local": "patch – sentence",
}
# Stand for the page's colours in a drawing, so that it follows light and dark.
INK, *SERIES = (f"#0000{number:02x}" for number in range(1, 6))
DASHES = ("-", "--", "-.", ":")
LABELS = {"density": "Breast density", "suspicious": "Suspicious lesion"}


def curves(history: RunHistory) -> list[tuple[str, Markup]]:
    """Captions and drawings: the loss, its terms, and zero-shot AUC where it was measured often.

    Sites of a private run tell no loss.
    """
    return [*_loss_curves(history), *_evaluation_curves(history)]


def _loss_curves(history: RunHistory) -> list[tuple[str, Markup]]:
    if not any(event.terms for event in history.rounds.values()):
        return []
    numbers = sorted(history.rounds)
    events = [history.rounds[number] for number in numbers]
    losses = [
        [m["terms"]["loss"] for m in event.sites.values() if "loss" in m["terms"]]
        for event in events
    ]
    return [
        (
            "Weighted sum of the terms, median over sites; the band spans the sites. "
            "It jumps where a term joins.",
            _draw(
                "Loss",
                {"loss": _points(numbers, [event.terms.get("loss") for event in events])},
                band=[(n, min(v), max(v)) for n, v in zip(numbers, losses, strict=True) if v],
            ),
        ),
        (
            "Each term before weighting, median over sites; a late term's curve begins "
            "where it joins.",
            _draw(
                "Terms of the loss",
                {
                    word: _points(numbers, [event.terms.get(term) for event in events])
                    for term, word in TERMS.items()
                },
            ),
        ),
    ]


def _evaluation_curves(history: RunHistory) -> list[tuple[str, Markup]]:
    measured = sorted(history.evaluations)
    if len(measured) < 2:
        return []
    lines = {
        word: _points(
            measured,
            [history.evaluations[n].federated["zero_shot"][label]["auc"] for n in measured],
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
    """Draw a line chart over rounds, as SVG for use inside a page."""
    # Imported late, so that the server's start does not wait for it.
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
    """Return the element of an SVG file with unique ids, the page's colours and no fixed size."""
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
