"""Groups of a step: a partition, sampled at the accountant's rate, never repeatable."""

import itertools

import pytest
import torch
from scipy import stats

from mama.privacy.sampler import PoissonGroupSampler


def test_groups_are_disjoint_and_of_one_size() -> None:
    sampler = PoissonGroupSampler(60, 6, 0.5)
    for _ in range(50):
        groups = sampler.draw()
        members = list(itertools.chain.from_iterable(groups))
        assert all(len(group) == 6 for group in groups)
        assert len(set(members)) == len(members)
        assert set(members) <= set(range(60))


def test_all_groups_together_are_the_roster() -> None:
    groups = PoissonGroupSampler(60, 6, 1.0).draw()
    assert sorted(itertools.chain.from_iterable(groups)) == list(range(60))


def test_the_number_of_groups_is_binomial() -> None:
    rate, groups, draws = 0.3, 8, 4000
    sampler = PoissonGroupSampler(16, 2, rate)
    counts = torch.bincount(
        torch.tensor([len(sampler.draw()) for _ in range(draws)]), minlength=groups + 1
    )
    expected = draws * stats.binom.pmf(range(groups + 1), groups, rate)
    # The rare ends together, as the test asks for at least a handful in each cell.
    cells = [[*counts[:5].tolist(), int(counts[5:].sum())], [*expected[:5], expected[5:].sum()]]
    assert stats.chisquare(*cells).pvalue > 1e-6


def test_every_slot_is_drawn_at_the_rate_and_meets_all_others() -> None:
    rate, slots, draws = 0.25, 12, 4000
    sampler = PoissonGroupSampler(slots, 3, rate)
    seen, met = torch.zeros(slots), torch.zeros(slots, slots)
    for _ in range(draws):
        for group in sampler.draw():
            seen[group] += 1
            for one, other in itertools.permutations(group, 2):
                met[one, other] += 1
    low, high = stats.binom.ppf([1e-8, 1 - 1e-8], draws, rate)
    assert ((seen >= low) & (seen <= high)).all()
    low, high = stats.binom.ppf([1e-8, 1 - 1e-8], draws, rate * 2 / (slots - 1))
    apart = ~torch.eye(slots, dtype=torch.bool)
    assert ((met[apart] >= low) & (met[apart] <= high)).all()


def test_low_rates_give_empty_lots() -> None:
    sampler = PoissonGroupSampler(4, 2, 0.01)
    assert [] in [sampler.draw() for _ in range(20)]


def test_a_seed_does_not_repeat_the_draws() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(0)
        drawn.append(PoissonGroupSampler(200, 2, 1.0).draw())
    assert drawn[0] != drawn[1]


def test_slots_that_make_no_whole_groups() -> None:
    with pytest.raises(ValueError, match="not a multiple of the group size"):
        PoissonGroupSampler(10, 3, 0.5)
