"""Label masking for evaluations: randomised response (Warner 1965), drawn once for all models.

The sender of a model chooses how it scores each breast. Two models can differ in a single breast,
and the difference of their counts then reveals its label. Rounding the counts does not help: a rule
that is fixed per cell can be attacked by a search for its threshold, and a rule that is drawn anew
for each content by averaging over similar models. Labels are therefore changed before any model is
scored. Each label keeps its class or moves to another by a draw that is keyed by the site's secret
and by study, breast and label, never by model, run or experiment. The answers to all models
together are functions of these masked labels: however many there are, they change the odds of a
true label by the factor `odds` at most. Masking covers all classes of the dataset's scheme, not
those of the experiment, which could request a single class.

Studies of one patient often share a label, and several draws of it would reveal more, so one study
per patient counts, chosen by the same key. Hidden are only labels: it is visible which units have
one, and how a model scores a unit.
"""

import hashlib
import hmac
from collections.abc import Iterable
from typing import NamedTuple

from mama.data.studies import Labels, Studies, Study
from mama.evaluation.predictions import SCHEMES, scheme_of
from mama.exchange.metrics import Label


class Rates(NamedTuple):
    """Probabilities that a label is kept, and that it moves to a given other class."""

    kept: float = 1.0
    moved: float = 0.0


class Mask:
    """Keyed masking of one dataset's labels.

    Args:
        studies: all studies of the dataset; their labels define the classes.
        secret: the site's key.
        odds: largest factor, above 1, by which answers may change the odds of a label; None
            disables masking.
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
        """Return the probabilities with which a label is kept and moved."""
        others = len(self._classes[label]) - 1
        if self._odds is None or others < 1:
            return Rates()
        return Rates(self._odds / (self._odds + others), 1 / (self._odds + others))

    def apply(self, studies: Iterable[Study]) -> Studies:
        """Return the studies with masked labels, in their order; each is masked when it is read.

        Of each patient, only one study keeps its labels; the others have none.
        """
        studies = Studies.of(studies)
        if self._odds is None:
            return studies
        chosen: dict[str, str] = {}
        for study in studies:
            if study.labels != Labels():
                both = (study.id, chosen.get(study.patient, study.id))
                chosen[study.patient] = min(both, key=lambda id: self._draw("study", id))

        def masked(study: Study) -> Study:
            kept = chosen.get(study.patient) == study.id
            return study.model_copy(update={"labels": self._masked(study) if kept else Labels()})

        return studies.mapped(masked)

    def _masked(self, study: Study) -> Labels:
        density, suspicious = study.labels.density, study.labels.suspicious
        # A single class cannot be masked, and there is nothing to rank.
        single = len(self._classes["density"]) < 2
        return Labels(
            density=None if single or not density else self._response("density", density, study.id),
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
        """Return a number in [0, 1) for these names, the same for all models."""
        text = "\0".join(("evaluation", *names)).encode()
        digest = hmac.new(self._secret, text, hashlib.sha256).digest()
        return int.from_bytes(digest[:8], "big") / 2**64
