"""Labels as evaluations see them: randomised response (Warner 1965), drawn once for all models.

Whoever sends a model chooses how it scores each breast, so two models can differ in one of them and the difference of
their counts is its label. Rounding the counts does not help: a rule that is fixed for a cell gives way to a search
for its threshold, and one that is drawn anew for each content gives way to averaging over near models. So the labels
are changed before any model is scored. Each keeps its class or moves to another by a draw that is keyed by the
site's secret and by study, breast and label, never by model, run or experiment. All answers to all models together
are functions of these masked labels: they change the odds of a true label by the factor `odds` at most, however many
there are. The masking is over all classes of the scheme that the dataset uses, not over the experiment's, which could
ask for one class alone.

Studies of one patient often share a label, and several draws of it would tell more: of each patient one study
counts, chosen by the same key. Which units have a label, and where a model scores a unit, is not hidden.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import NamedTuple

from mama.data.studies import Labels, Study
from mama.evaluation.predictions import SCHEMES, scheme_of
from mama.exchange.metrics import Label


class Rates(NamedTuple):
    """The probability that a label is kept, and that it becomes any one other class."""

    kept: float = 1.0
    moved: float = 0.0


class Mask:
    """The keyed masking of one dataset's labels.

    Args:
        studies: all of the dataset; their labels name the classes.
        secret: the site's key.
        odds: the largest factor, above 1, by which answers may change the odds of a label; None leaves the labels
            as they are.
    """

    def __init__(self, studies: Iterable[Study], secret: bytes, odds: float | None):
        self._secret, self._odds = secret, odds
        truths = {study.labels.density for study in studies if study.labels.density}
        scheme = scheme_of(truths)
        density = tuple(sorted(SCHEMES[scheme] if scheme else truths))
        self._classes: dict[Label, tuple[str, ...]] = {
            "density": density,
            "suspicious": ("no", "yes"),
        }

    def rates(self, label: Label) -> Rates:
        """The probabilities with which a label is kept and moved."""
        others = len(self._classes[label]) - 1
        if self._odds is None or others < 1:
            return Rates()
        return Rates(self._odds / (self._odds + others), 1 / (self._odds + others))

    def apply(self, studies: list[Study]) -> list[Study]:
        """The studies in their order with masked labels; those that do not count for their patient have none."""
        if self._odds is None:
            return studies
        chosen: dict[str, Study] = {}
        for study in studies:
            if study.labels != Labels():
                other = chosen.setdefault(study.patient, study)
                chosen[study.patient] = min(study, other, key=lambda s: self._draw("study", s.id))
        return [
            study.model_copy(
                update={
                    "labels": self._masked(study)
                    if chosen.get(study.patient) is study
                    else Labels()
                }
            )
            for study in studies
        ]

    def _masked(self, study: Study) -> Labels:
        density, suspicious = study.labels.density, study.labels.suspicious
        # A class that has no other tells its label and ranks nothing.
        alone = len(self._classes["density"]) < 2
        return Labels(
            density=self._response("density", density, study.id) if density and not alone else None,
            suspicious=suspicious
            and {
                side: self._response("suspicious", "yes" if found else "no", study.id, side)
                == "yes"
                for side, found in suspicious.items()
            },
        )

    def _response(self, label: Label, truth: str, *unit: str) -> str:
        kept, moved = self.rates(label)
        others = [name for name in self._classes[label] if name != truth]
        draw = self._draw(label, *unit)
        if draw < kept:
            return truth
        return others[min(int((draw - kept) / moved), len(others) - 1)]

    def _draw(self, *names: str) -> float:
        """A number in [0, 1) for these names, the same for all models."""
        text = "\0".join(("evaluation", *names)).encode()
        digest = hmac.new(self._secret, text, hashlib.sha256).digest()
        return int.from_bytes(digest[:8], "big") / 2**64
