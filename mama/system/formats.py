"""Numbers for people, in terminals, logs and pages."""

from collections.abc import Iterable
from itertools import pairwise

DASH = "-"  # for a number that is not known


def figure(value: float | None, digits: int = 3, dash: str = DASH) -> str:
    """Format a number with a fixed number of decimals: 1,234.500."""
    return dash if value is None else f"{value:,.{digits}f}"


def signed(value: float | None, dash: str = DASH) -> str:
    """Format a difference with its sign: +0.012."""
    return dash if value is None else f"{value:+.3f}"


def percent(share: float) -> str:
    """Format a share of 1 in whole per cents: 12 %."""
    return f"{100 * share:.0f} %"


def counted(count: int, one: str, several: str = "") -> str:
    """Format a number of things: 1 file, 2 files, 3 studies."""
    return f"{count} {one if count == 1 else several or f'{one}s'}"


def size(count: float) -> str:
    """Format bytes in powers of 1000: 412 bytes, 2.1 MB."""
    for unit, digits in (("bytes", 0), ("kB", 1), ("MB", 1)):
        if round(count, digits) < 1000:
            return f"{count:.{digits}f} {unit}"
        count /= 1000
    return f"{count:,.1f} GB"


def short_size(count: float) -> str:
    """Format bytes in at most five characters, for a column: 412, 2.1M."""
    for unit in ("", "k", "M", "G"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:.0f}T"


def gib(count: float) -> str:
    """Format bytes as GiB without the unit, as nvidia-smi counts a GPU's memory: 79.6."""
    return f"{count / 2**30:.1f}"


def duration(seconds: float) -> str:
    """Format seconds below two minutes, minutes below two hours, then hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def clock(seconds: float) -> str:
    """Format seconds as hours, minutes and seconds: 1:06:30."""
    minutes, second = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{second:02}"


def ranges(numbers: Iterable[int]) -> str:
    """Format whole numbers in few characters: 1, 2, 3, 7 is "1–3, 7"."""
    ordered = sorted(set(numbers))
    cuts = [0, *(i for i, (a, b) in enumerate(pairwise(ordered), 1) if b > a + 1), len(ordered)]
    runs = [ordered[start:stop] for start, stop in pairwise(cuts) if start < stop]
    return ", ".join(f"{r[0]}–{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
