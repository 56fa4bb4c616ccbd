"""Epsilon: Opacus' values, published values, and relations between the three accountants."""

import math

import pytest
from opacus.accountants import PRVAccountant, RDPAccountant

from mama.errors import ConfigError
from mama.privacy.accounting import (
    noise_multiplier,
    prv_epsilon,
    rdp_epsilon,
    replace_one_epsilon,
)

EXAMPLE = [(2.0, 0.1, 1000)]


def test_known_values() -> None:
    assert rdp_epsilon(EXAMPLE, 1e-5) == pytest.approx(8.94, abs=0.005)
    assert prv_epsilon(EXAMPLE, 1e-5) == pytest.approx(8.29, abs=0.005)
    assert replace_one_epsilon(EXAMPLE, 1e-5) == pytest.approx(26.5, abs=0.05)


@pytest.mark.parametrize(
    "charges", [EXAMPLE, [(1.1, 0.01, 500), (3.0, 0.2, 40)], [(2.5, 1.0, 1)], [(0.6, 0.5, 3)]]
)
def test_it_is_opacus_value(charges: list[tuple[float, float, int]]) -> None:
    rdp, prv = RDPAccountant(), PRVAccountant()
    rdp.history, prv.history = list(charges), list(charges)
    assert rdp_epsilon(charges, 1e-5) == pytest.approx(rdp.get_epsilon(1e-5), rel=1e-9)
    assert prv_epsilon(charges, 1e-5) == pytest.approx(prv.get_epsilon(1e-5), rel=1e-9)


def test_replace_one_is_two_hops() -> None:
    epsilon = replace_one_epsilon(EXAMPLE, 1e-5)
    # At the delta of one hop that makes (1 + e^eps) delta' the whole delta.
    hop = 1e-5 / (1 + math.exp(epsilon / 2))
    assert rdp_epsilon(EXAMPLE, hop) == pytest.approx(epsilon / 2, rel=1e-6)
    assert epsilon > 2 * rdp_epsilon(EXAMPLE, 1e-5)


def test_nothing_spent_and_nothing_left() -> None:
    assert rdp_epsilon([], 1e-5) == prv_epsilon([], 1e-5) == replace_one_epsilon([], 1e-5) == 0
    assert replace_one_epsilon([(0.05, 1.0, 1000)], 1e-5) > 1e5


@pytest.mark.parametrize(("epsilon", "rate", "steps"), [(8, 0.1, 1000), (1, 0.02, 50), (30, 1, 10)])
def test_the_noise_meets_the_target(epsilon: float, rate: float, steps: int) -> None:
    z = noise_multiplier(epsilon, 1e-5, rate, steps)
    spent = rdp_epsilon([(z, rate, steps)], 1e-5)
    assert epsilon - 0.011 <= spent <= epsilon
    assert rdp_epsilon([(z, rate, steps + steps // 10)], 1e-5) > epsilon - 0.011


@pytest.mark.parametrize(
    ("epsilon", "delta", "rate", "steps"),
    [(0.1, 1e-6, 0.01, 100), (0.05, 1e-5, 1.0, 10), (0.1, 1e-8, 0.1, 60)],
)
def test_small_targets_are_met(epsilon: float, delta: float, rate: float, steps: int) -> None:
    charges = [(noise_multiplier(epsilon, delta, rate, steps), rate, steps)]
    assert 0.9 * epsilon < rdp_epsilon(charges, delta) <= epsilon


@pytest.mark.parametrize("delta", [1e-5, 1e-6, 1e-8])
def test_a_step_under_much_noise_costs_next_to_nothing(delta: float) -> None:
    assert rdp_epsilon([(1000.0, 0.01, 1)], delta) < 0.011


def test_what_the_accountant_cannot_prove_is_its_own_limit() -> None:
    with pytest.raises(ConfigError) as error:
        noise_multiplier(1e-5, 1e-6, 0.01, 100)
    assert "the accountant (RDP, orders to 2048) cannot prove epsilon 1e-05" in str(error.value)
    assert "the smallest epsilon it can prove is 0.0" in str(error.value)
