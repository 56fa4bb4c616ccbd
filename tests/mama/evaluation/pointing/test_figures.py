"""Figures of maps made by hand, and the rules' maps."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mama.evaluation.pointing.figures import energy_inside, hit, rules

MAPS = arrays(np.float32, (3, 4), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0]))
MASKS = arrays(bool, (3, 4))
NAN = np.nan


def test_the_largest_value_hits_or_misses() -> None:
    values = np.array([[NAN, 1.0], [-5.0, 3.0]])
    assert hit(values, np.array([[False, False], [False, True]])) == 1
    assert hit(values, np.array([[True, True], [True, False]])) == 0


def test_ties_count_by_their_share() -> None:
    values = np.array([[2.0, 2.0], [2.0, 1.0]])
    assert hit(values, np.array([[True, False], [False, True]])) == pytest.approx(1 / 3)


def test_energy_is_the_share_of_positive_heat() -> None:
    values = np.array([[NAN, 1.0], [-5.0, 3.0]])
    assert energy_inside(values, np.array([[True, False], [True, True]])) == 0.75
    assert energy_inside(-np.abs(values), np.ones((2, 2), bool)) == 0


@given(MAPS, MASKS, st.floats(0.5, 4))
def test_figures_are_shares_and_do_not_depend_on_scale(
    values: np.ndarray, inside: np.ndarray, factor: float
) -> None:
    for figure in (hit, energy_inside):
        assert 0 <= figure(values, inside) <= 1
        assert figure(values * np.float32(factor), inside) == pytest.approx(figure(values, inside))
    assert hit(values, inside) + hit(values, ~inside) == pytest.approx(1)


@given(MASKS, MASKS)
def test_random_hits_by_the_boxs_share_of_the_tissue(
    inside: np.ndarray, tissue: np.ndarray
) -> None:
    tissue[0, 0] = True
    maps = rules(torch.zeros(1, 12, 16), tissue)
    assert hit(maps["random"], inside) == pytest.approx((inside & tissue).sum() / tissue.sum())
    for values in maps.values():
        assert (np.isnan(values) == ~tissue).all()


def test_the_centre_is_the_patch_nearest_to_the_tissues_centroid() -> None:
    tissue = np.ones((3, 5), bool)
    assert np.nanargmax(rules(torch.zeros(1, 6, 10), tissue)["centre"]) == 7
    tissue[:, 4] = False  # the centroid now lies between two patches
    centre = rules(torch.zeros(1, 6, 10), tissue)["centre"]
    assert np.argwhere(centre == np.nanmax(centre)).tolist() == [[1, 1], [1, 2]]


def test_the_brightest_patch_has_the_highest_mean_of_the_tissue() -> None:
    canvas = torch.full((1, 4, 6), -0.5)
    canvas[0, 0, 0] = 1.0  # one bright pixel
    canvas[0, 2:4, 2:4] = 0.2
    canvas[0, 2:4, 4:6] = 0.9  # not tissue, by the mask
    tissue = np.array([[True, True, True], [True, True, False]])
    brightest = rules(canvas, tissue)["brightest"]
    assert np.nanargmax(brightest) == 4
    assert brightest[0].tolist() == pytest.approx([-0.125, -0.5, -0.5])
