"""The learning rate: pinned values of the warm-up and the cosine."""

import pytest

from mama.training.schedule import learning_rate


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.2),  # five steps of warm-up, never 0
        (3, 0.8),
        (4, 1.0),  # its end
        (5, 1.0),  # the cosine begins at its peak
        (20, 0.75),  # a third
        (27, 0.5174497),
        (35, 0.25),  # two thirds
        (49, 0.0012180),  # the last step
        (50, 0.0),
        (60, 0.0),
    ],
)
def test_pinned_values(step: int, rate: float) -> None:
    assert learning_rate(step, 50, 2e-3, 0.1) == pytest.approx(2e-3 * rate, abs=1e-9)


@pytest.mark.parametrize(
    ("total", "warmup", "expected"),
    [
        (4, 0.0, [1, 0.8535534, 0.5, 0.1464466]),
        (4, 1.0, [0.25, 0.5, 0.75, 1.0]),
        (1, 0.1, [1.0]),
    ],
)
def test_short_runs(total: int, warmup: float, expected: list[float]) -> None:
    rates = [learning_rate(step, total, 1.0, warmup) for step in range(total)]
    assert rates == pytest.approx(expected)
