"""Diagnostics of a step computed by hand, and the resulting warnings."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from mama.training.diagnostics import ENOUGH_STEPS, Health, effective_rank, health
from mama.training.objective import Encoded

WELL = Health(
    loss_over_chance=0.5,
    recall_at_1=0.7,
    effective_rank=8.0,
    modality_gap=0.4,
    logit_scale=14.0,
    tissue_patches=20.0,
)


def encoded(
    images: Tensor,
    texts: Tensor,
    described: list[bool] | None = None,
    report: list[int] | None = None,
) -> Encoded:
    """A batch in which only what the figures are made of is real."""
    n = len(images)
    nothing = torch.zeros(0, images.shape[1])
    return Encoded(
        first=images,
        first_view=nothing,
        second=nothing,
        second_view=nothing,
        patches=nothing,
        text=texts,
        sentences=nothing,
        patch_counts=torch.arange(n) * 3,
        sentence_counts=torch.ones(n, dtype=torch.int64),
        described=torch.tensor(described or [True] * n),
        second_described=torch.zeros(n, dtype=torch.bool),
        report=torch.tensor(report or list(range(n))),
        truncated=torch.zeros(1, dtype=torch.int64),
    )


def figures(batch: Encoded, loss: float = 1.0) -> Health:
    found = health(batch, torch.tensor(math.log(20.0)), loss)
    assert found is not None
    return found


@pytest.mark.parametrize("n", [1, 2, 5])
def test_orthogonal_vectors_have_full_rank_and_equal_ones_rank_one(n: int) -> None:
    assert effective_rank(7 * torch.eye(n, 6)) == pytest.approx(n, rel=1e-5)
    assert effective_rank(torch.ones(n, 6)) == pytest.approx(1, abs=1e-4)
    assert effective_rank(torch.zeros(n, 6)) == pytest.approx(1)


def test_effective_rank_is_the_exponential_of_the_entropy() -> None:
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    vectors = torch.tensor([[0.0, 3.0, 0.0], [1.0, 0.0, 0.0]])
    assert effective_rank(vectors) == pytest.approx(math.exp(entropy), rel=1e-5)


@settings(deadline=None)
@given(n=st.integers(1, 8), width=st.integers(1, 8), seed=st.integers(0, 99))
def test_effective_rank_lies_between_one_and_the_smaller_side(
    n: int, width: int, seed: int
) -> None:
    vectors = torch.randn(n, width, generator=torch.Generator().manual_seed(seed))
    assert 1 - 1e-5 <= effective_rank(vectors) <= min(n, width) + 1e-4
    assert effective_rank(5 * vectors) == pytest.approx(effective_rank(vectors), rel=1e-4)


def test_figures_of_a_batch() -> None:
    texts = torch.eye(4, 5)
    images = 3 * texts.clone()
    images[2] = texts[3]  # image 2 finds the wrong report
    found = figures(encoded(images, texts), loss=2 * math.log(4) * 0.6)
    assert found.loss_over_chance == pytest.approx(0.6)
    assert found.recall_at_1 == pytest.approx(0.75)
    # Lengths 1, 1 and sqrt(2) of the three directions.
    shares = [1 / (2 + math.sqrt(2))] * 2 + [math.sqrt(2) / (2 + math.sqrt(2))]
    rank = math.exp(-sum(share * math.log(share) for share in shares))
    assert found.effective_rank == pytest.approx(rank, rel=1e-5)
    # Means (1, 1, 0, 2) / 4 and (1, 1, 1, 1) / 4.
    assert found.modality_gap == pytest.approx(math.sqrt(2) / 4)
    assert found.logit_scale == pytest.approx(20)
    assert found.tissue_patches == pytest.approx(4.5)
    assert set(found.figures()) == set(Health.__dataclass_fields__)


def test_embeddings_count_by_direction_alone() -> None:
    images, texts = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).double()
    lengths = torch.arange(1.0, 7.0)[:, None]
    found, scaled = figures(encoded(images, texts)), figures(encoded(lengths * images, 9 * texts))
    assert scaled.figures() == pytest.approx(found.figures(), rel=1e-4)


def test_a_report_that_reads_the_same_is_the_right_one() -> None:
    texts = torch.eye(3)
    images = texts[[1, 0, 2]]
    assert figures(encoded(images, texts)).recall_at_1 == pytest.approx(1 / 3)
    assert figures(encoded(images, texts, report=[8, 8, 9])).recall_at_1 == 1


def test_images_without_a_report_are_left_out() -> None:
    images, texts = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    described = [True, False, True, True, False]
    rows = torch.tensor(described)
    found = figures(encoded(images, texts, described)).figures()
    expected = figures(encoded(images[rows], texts[rows])).figures()
    assert found.pop("tissue_patches") == 6  # of all images
    expected.pop("tissue_patches")
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("described", [[False, False, False], [False, True, False]])
def test_fewer_than_two_reports_say_nothing(described: list[bool]) -> None:
    batch = encoded(torch.eye(3), torch.eye(3), described)
    assert health(batch, torch.tensor(0.0), 0.0) is None


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_collapsed_embeddings_are_warned_of_and_others_not(progress: float) -> None:
    generator = torch.Generator().manual_seed(0)
    texts = torch.randn(8, 16, generator=generator)
    same = torch.ones(8, 16) + 1e-3 * torch.randn(8, 16, generator=generator)
    (line,) = figures(encoded(same, texts)).warnings(progress, 1)
    assert line.startswith("image embeddings have collapsed (effective rank 1.0")
    assert "optimiser.lr" in line
    for images in (texts, torch.ones(8, 16) + texts):
        assert figures(encoded(images, texts)).warnings(progress, 1) == []


def test_guessing_is_warned_of_in_the_second_half_of_a_run_that_is_long_enough() -> None:
    guessing = replace(WELL, loss_over_chance=1.0)
    assert guessing.warnings(0.4, 400) == []
    assert guessing.warnings(1.0, ENOUGH_STEPS - 1) == []
    (line,) = guessing.warnings(0.6, ENOUGH_STEPS)
    assert "no better than chance" in line
    assert WELL.warnings(0.6, 600) == []
    off = replace(WELL, loss_over_chance=math.nan)  # the term
    assert off.warnings(0.6, 600) == []
    assert off.figures().keys() == WELL.figures().keys() - {"loss_over_chance"}
