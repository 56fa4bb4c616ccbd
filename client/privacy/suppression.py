"""Suppression of small counts before they leave the site.

A count below the minimum is suppressed (primary suppression), and so are further ones, so that no
suppressed count follows from the others and an exact total (complementary suppression; Hundepool
et al., "Statistical Disclosure Control", Wiley 2012, chapter 4). The others are rounded to
multiples of the minimum.

Assumption: who reads the counts may know this rule and the exact number of patients, which every
training answer holds, but not the site's secret. It is no bound such as differential privacy.
"""

import hmac
from collections.abc import Mapping


def released(
    counts: Mapping[str, int], minimum: int, secret: bytes
) -> dict[str, int | None] | None:
    """Return the rounded counts of the categories that have patients; None where suppressed.

    Empty categories are told, as in evaluations (`mama.evaluation.counts`). The result is None if
    the table as a whole must be suppressed.

    Args:
        counts: patients by category.
        minimum: smallest count that may leave.
        secret: the site's key of the choice among cells of equal size.
    """
    hidden = _suppressed(counts, minimum, secret)
    if hidden is None:
        return None
    return {
        name: None if name in hidden else rounded(count, minimum)
        for name, count in counts.items()
        if count
    }


def rounded(count: int, minimum: int) -> int:
    """Return the nearest multiple of the minimum; halves are rounded up."""
    return (count + minimum // 2) // minimum * minimum


def _suppressed(counts: Mapping[str, int], minimum: int, secret: bytes) -> list[str] | None:
    """Return the cells to suppress: those below the minimum, and the smallest others if needed.

    Of n suppressed cells whose sum is T, each holds 1 to T - n + 1 patients as far as others can
    tell. Cells are added until that range has `minimum` values. Of cells that are equal when
    rounded the secret chooses: that one was added and not another must not tell their order.
    """

    def size(name: str) -> tuple[int, bytes]:
        return rounded(counts[name], minimum), hmac.digest(secret, name.encode(), "sha256")

    hidden = [name for name, count in counts.items() if 0 < count < minimum]
    if not hidden:
        return []
    others = sorted((name for name, count in counts.items() if count >= minimum), key=size)
    while sum(counts[name] for name in hidden) - len(hidden) + 1 < minimum:
        if not others:
            return None
        hidden.append(others.pop(0))
    return hidden
