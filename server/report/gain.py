"""Gain of a run at the coordinator: zero-shot AUC of its first and last evaluation.

Sites send counts that do not distinguish patients, and labels may be masked, so there is no
interval.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

Figures = Mapping[str, Any]

NO_ROUND_0 = (
    "Round 0 is not known here: a site's counts are checked against the size of its updates, "
    "so none is asked for an evaluation before its first one."
)
NO_EARLIER = "The run has one evaluation; federation.evaluate_every asks for earlier ones."
OTHER_SITES = "The two evaluations are not of the same sites; compare the sites' own rows."
NO_OWN_MODEL = (
    "A hospital's own model, trained on its data alone, is not known here: it does not leave the "
    "hospital. Each site's own report has round 0, the final model and, if there is one, that "
    "model, with intervals by patients: mama-site report."
)


class Row(NamedTuple):
    """AUC of one task at one site or all sites; None without a figure.

    `reason` explains a figure that no site sent.
    """

    label: str
    name: str
    first: float | None
    last: float | None
    reason: str = ""

    @property
    def change(self) -> float | None:
        """The last AUC less the first."""
        return None if self.first is None or self.last is None else self.last - self.first


class Gain(NamedTuple):
    """Rows, the rounds of the two evaluations, and remarks on unknown figures."""

    rows: list[Row]
    first: int | None
    last: int
    remarks: list[str]


def gain(
    evaluations: Mapping[int, Figures], final: Figures, last: int, labels: Mapping[str, str]
) -> Gain:
    """Compare the final evaluation with the first of the run.

    Args:
        evaluations: by the number of rounds that made the model.
        final: the evaluation after round `last`.
        last: number of rounds of the final model.
        labels: display names by task.
    """
    first = min((number for number in evaluations if number < last), default=None)
    before = {} if first is None else evaluations[first].get("zero_shot", {})
    after = final.get("zero_shot", {})
    rows = []
    for label, word in labels.items():
        old, new = before.get(label, {}), after.get(label, {})
        rows.append(
            Row(word, "all sites", old.get("auc"), new.get("auc"), str(new.get("reason", "")))
        )
        sites = {**old.get("sites", {}), **new.get("sites", {})}
        rows += [
            Row(word, site, old.get("sites", {}).get(site), new.get("sites", {}).get(site))
            for site in sorted(sites)
        ]
    return Gain(rows, first, last, _remarks(rows, first))


def _remarks(rows: list[Row], first: int | None) -> list[str]:
    if all(row.last is None for row in rows):
        return [NO_OWN_MODEL]  # the rows say why
    remarks = [NO_EARLIER] if first is None else []
    if first is not None and any((row.first is None) != (row.last is None) for row in rows):
        remarks.append(OTHER_SITES)
    return [*remarks, *([NO_ROUND_0] if first != 0 else []), NO_OWN_MODEL]
