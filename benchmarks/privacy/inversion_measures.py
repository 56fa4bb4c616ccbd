"""Metrics of reconstructions from an update, with baselines that need no update."""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from torch import Tensor


def pictures(
    films: Tensor, true: Tensor, others: Tensor, films_of_birch: Tensor
) -> dict[str, float]:
    """Return the best matching of films and true views, with baselines that need no update."""
    count, mean_film = len(true), films_of_birch.mean(0)
    corr, chosen = matched(films[:count], true, mean_film)
    plain, _ = matched(films[:count], others, mean_film)
    own, nearest = matched(films_of_birch, true, mean_film)
    mean = mean_film.expand_as(true)
    outline = torch.where(true > -1, mean, torch.tensor(-1.0))
    return {
        "corr": corr,
        "corr_of_others": plain,
        "corr_true_outline": matched(outline, true, mean_film)[0],
        "corr_nearest_of_birch": own,
        "psnr": psnr(films[:count][chosen], true),
        "psnr_mean_film": psnr(mean, true),
        "psnr_random_other": psnr(others, true),
        "ssim": ssim(films[:count][chosen], true),
        "ssim_mean_film": ssim(mean, true),
        "ssim_nearest_of_birch": ssim(films_of_birch[nearest], true),
        "psnr_ratio": psnr(films[:count][chosen], true) / psnr(mean, true),
        "ssim_ratio": ssim(films[:count][chosen], true) / ssim(mean, true),
    }


def matched(films: Tensor, true: Tensor, mean: Tensor) -> tuple[float, np.ndarray]:
    """Return the mean correlation of the best one-to-one matching, and each true view's film."""
    rows, columns = (
        F.normalize((x - mean).flatten(1) - (x - mean).flatten(1).mean(1, keepdim=True), dim=1)
        for x in (true, films)
    )
    corr = (rows @ columns.T).numpy()
    row, column = linear_sum_assignment(-corr)
    return float(corr[row, column].mean()), column


def psnr(films: Tensor, true: Tensor) -> float:
    errors = (films - true).square().flatten(1).mean(1)
    return float((10 * torch.log10(4 / errors)).mean())


def ssim(films: Tensor, true: Tensor) -> float:
    """Return the structural similarity (Wang et al. 2004), Gaussian window of sigma 1.5."""

    def soft(array: np.ndarray) -> np.ndarray:
        return gaussian_filter(array, (0, 1.5, 1.5))

    a, b = films[:, 0].numpy().astype(float), true[:, 0].numpy().astype(float)
    ma, mb = soft(a), soft(b)
    va, vb, ab = soft(a * a) - ma**2, soft(b * b) - mb**2, soft(a * b) - ma * mb
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    return float(
        ((2 * ma * mb + c1) * (2 * ab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean()
    )


def auc(inside: Sequence[float], outside: Sequence[float]) -> float:
    a, b = np.array(inside)[:, None], np.array(outside)[None]
    return float(((a > b) + 0.5 * (a == b)).mean()) if a.size and b.size else float("nan")
