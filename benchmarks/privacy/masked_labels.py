"""Cost of masked labels to an evaluation: the pooled AUC of masked counts and the exact one.

Three sites, breasts of which 30 % are positive, logits of unit variance 1.35 apart (AUC 0.83) and
random secrets.
"""

import argparse

import numpy as np
from sklearn.metrics import roc_auc_score

from mama.data.studies import Image, Labels, Study
from mama.evaluation.counts import label_counts
from mama.evaluation.masking import Mask
from mama.evaluation.pooling import summary
from mama.evaluation.predictions import Predictions, units_of
from mama.exchange.metrics import EvaluationCounts

SITES, APART, POSITIVE, MINIMUM = 3, 1.35, 0.3, 5


def studies(number: int, random: np.random.Generator) -> list[Study]:
    """Return studies with two breasts and one image per breast."""
    sides = [
        Image(id=side, laterality=side, view="CC", vendor=None, height=8, width=8) for side in "LR"
    ]
    return [
        Study(
            id=f"s{n}",
            patient=f"p{n}",
            split="test",
            images=tuple(sides),
            sentences=(),
            labels=Labels(suspicious={side: bool(random.random() < POSITIVE) for side in "LR"}),
        )
        for n in range(number)
    ]


def answers(known: list[Study], logits: np.ndarray) -> Predictions:
    """Return the predictions of a model with these logits, one per breast."""
    probabilities = 1 / (1 + np.exp(-logits))
    table = np.stack([1 - probabilities, probabilities], axis=1)
    return Predictions(("no", "yes"), table, units_of(known, "suspicious"))


def once(number: int, odds: float | None, random: np.random.Generator) -> tuple[float, float]:
    """Return the exact and the masked pooled AUC for one draw of hospitals."""
    truths, scores, by_site = [], [], {}
    for site in range(SITES):
        own = studies(number, random)
        truth = np.array([unit.truth == "yes" for unit in units_of(own, "suspicious")])
        logits = APART * (truth - 0.5) + random.normal(size=len(truth))
        mask = Mask(own, random.bytes(32), odds)
        counts = label_counts(
            answers(mask.apply(own), logits), MINIMUM, b"k" * 32, mask.rates("suspicious")
        )
        if counts:
            by_site[str(site)] = EvaluationCounts(counts={"zero_shot": {"suspicious": counts}})
        truths.append(truth)
        scores.append(logits)
    pooled = summary(by_site)["zero_shot"]["suspicious"].get("auc_pooled")
    exact = roc_auc_score(np.concatenate(truths), np.concatenate(scores))
    return float(exact), float("nan") if pooled is None else float(pooled)  # type: ignore[arg-type]


def main() -> None:
    """Print a row for each size and odds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    print("| test studies per site | odds | seed | bias | deviation | undefined |")
    print("|---|---|---|---|---|---|")
    for number in (20, 70, 300):
        for odds in (None, 2.0, 3.0, 6.0):
            for seed in options.seeds:
                random = np.random.default_rng(seed)
                pairs = np.array([once(number, odds, random) for _ in range(options.draws)])
                there = ~np.isnan(pairs[:, 1])
                off = pairs[there, 1] - pairs[there, 0]
                share = 1 - there.mean()
                print(
                    f"| {number} | {odds} | {seed} | {off.mean():+.3f} | {off.std():.3f} "
                    f"| {share:.2f} |"
                )


if __name__ == "__main__":
    main()
