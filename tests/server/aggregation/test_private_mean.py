"""Site-level privacy: bounded effect of each update, and noise of the stated size."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from mama.config.privacy import PrivacyConfig
from mama.errors import PrivacyError
from server.aggregation.private_mean import NoisedMean, clipping_factor, site_epsilon, site_noise

CONFIG = PrivacyConfig(mode="site", epsilon=8, delta=1e-2, max_grad_norm=0.5)
SHAPES = {"a": (3, 2), "b": (4,)}
QUIET = CONFIG.model_copy(update={"epsilon": 900.0})


def update(seed: int, size: float = 1.0) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    return {
        name: (size * random.standard_normal(shape)).astype(np.float32)
        for name, shape in SHAPES.items()
    }


def summed(*updates: dict[str, np.ndarray]) -> np.ndarray:
    """The sum before the noise."""
    mean = NoisedMean(SHAPES, CONFIG, 10, 5)
    mean.sigma = 0.0
    for number, one in enumerate(updates):
        mean.fold(f"s{number}", one)
    return 5 * np.concatenate([t.numpy().ravel() for t in mean.result().values()]).astype(float)


numbers = st.floats(width=32, allow_nan=True, allow_infinity=True)


@settings(max_examples=150, deadline=None)
@given(
    hostile=st.tuples(
        arrays(np.float32, (3, 2), elements=numbers), arrays(np.float32, 4, elements=numbers)
    )
)
def test_no_update_moves_the_sum_by_more_than_the_norm(
    hostile: tuple[np.ndarray, np.ndarray],
) -> None:
    others = [update(1), update(2, 1e-3)]
    moved = summed(*others, {"a": hostile[0], "b": hostile[1]}) - summed(*others)
    assert np.linalg.norm(moved) <= CONFIG.max_grad_norm * (1 + 1e-5)


def test_long_updates_are_cut_to_the_norm_and_short_ones_left() -> None:
    assert np.linalg.norm(summed(update(0, 1e3))) == pytest.approx(0.5, rel=1e-5)
    short = update(0, 1e-3)
    flat = np.concatenate([short[name].ravel() for name in SHAPES])
    assert summed(short) == pytest.approx(flat, rel=1e-6)


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf, -math.inf])
def test_updates_without_direction_add_nothing(value: float) -> None:
    bad = {name: np.full(shape, value, np.float32) for name, shape in SHAPES.items()}
    assert clipping_factor(bad, 1.0) == 0
    assert (summed(bad) == 0).all()
    one_bad = update(0)
    one_bad["b"][0] = value
    if value:
        assert (summed(one_bad) == 0).all()


def test_whole_numbers_are_clipped_like_others() -> None:
    whole = {"a": np.full((3, 2), 2**31 - 1, np.int32), "b": np.full(4, -7, np.int8)}
    assert np.linalg.norm(summed(whole)) == pytest.approx(0.5, rel=1e-5)


def test_weights_and_absences_change_nothing_but_the_sum() -> None:
    mean = NoisedMean(SHAPES, CONFIG, 10, 4)
    mean.sigma = 0.0
    mean.fold("one", update(0, 1e-3), weight=1000.0)
    result = mean.result()
    # Of four sites one answered: the divisor stays four, whatever weight it claims.
    assert result["b"].numpy() == pytest.approx(update(0, 1e-3)["b"] / 4)


def test_no_site_counts_twice() -> None:
    mean = NoisedMean(SHAPES, CONFIG, 10, 2)
    mean.fold("one", update(0))
    with pytest.raises(PrivacyError):
        mean.fold("one", update(1))
    mean.fold("two", update(1))
    with pytest.raises(PrivacyError):
        mean.fold("three", update(2))


def test_the_noise_has_the_size_that_was_accounted_for() -> None:
    shapes = {"a": (200, 200)}
    mean = NoisedMean(shapes, CONFIG, 100, 4)
    drawn = 4 * mean.result()["a"].numpy().astype(float)
    sigma = site_noise(CONFIG, 100) * 0.5
    low, high = stats.chi2.ppf([1e-7, 1 - 1e-7], drawn.size)
    assert low <= (drawn**2).sum() / sigma**2 <= high
    assert abs(drawn.mean()) <= stats.norm.isf(1e-7) * sigma / math.sqrt(drawn.size)
    again = 4 * NoisedMean(shapes, CONFIG, 100, 4).result()["a"].numpy()
    assert (again != drawn).mean() > 0.99  # of values on a grid


def test_the_price_of_rounds() -> None:
    # The published example: epsilon 8 at delta 1e-2 over 100 rounds.
    assert site_noise(CONFIG, 100) == pytest.approx(4.5, abs=0.1)
    assert site_epsilon(CONFIG, 100, 0) == 0
    spent = [site_epsilon(CONFIG, 100, done) for done in (1, 50, 100)]
    assert spent == sorted(spent)
    assert 7.98 <= spent[-1] <= 8
