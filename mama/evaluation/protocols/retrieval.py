"""Retrieval: the rank of a study's report among all reports by its images, and the reverse."""

from collections.abc import Sequence
from math import comb
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from mama.data.studies import Study
from mama.evaluation.bootstrap import rate
from mama.evaluation.features import Features
from mama.evaluation.predictions import require_numbers
from mama.model import MaMA

PLACES = (1, 5, 10)
# Reports that are encoded, and queries that are ranked, at a time.
CHUNK = 64


@torch.no_grad()
def retrieval(
    model: MaMA, studies: Sequence[Study], features: Features, device: torch.device
) -> dict[str, Any]:
    """Return the recall at 1, 5 and 10 in both directions, with 95 % intervals and chance.

    {"studies": 96, "reports": 80, "image_to_report": {"1": {"value": 0.2, "low": 0.1, "high": 0.3,
    "chance": 0.01}, ...}, "report_to_image": ...}. A study is the normalised mean of its images'
    embeddings and its whole report. Studies whose reports are identical are all right answers.
    With fewer than two different reports, the directions are None, with `reason`.

    Args:
        model: the model.
        studies: the studies; those without a report are left out.
        features: features of their images.
        device: the model's device.

    Raises:
        TrainingError: an embedding is not finite.
    """
    rows, images, first = [], [], 0
    for number, study in enumerate(studies):
        last = first + len(study.images)
        if study.sentences and study.images:
            rows.append(number)
            images.append(F.normalize(features.embeddings[first:last].mean(0), dim=0))
        first = last
    reports = [studies[row].texts() for row in rows]
    distinct = {report: number for number, report in enumerate(dict.fromkeys(reports))}
    found: dict[str, Any] = {"studies": len(rows), "reports": len(distinct)}
    if len(distinct) < 2:
        return found | {
            "image_to_report": None,
            "report_to_image": None,
            "reason": "fewer than two different reports",
        }
    same = np.array([distinct[report] for report in reports])
    texts = _encoded(model, list(distinct), device).numpy()[same]
    patients = [studies[row].patient for row in rows]
    pictures = torch.stack(images).numpy()
    for vectors in (pictures, texts):
        require_numbers(vectors)  # no comparison with NaN holds, so that every rank would be 1
    return found | {
        "image_to_report": _recalls(pictures, texts, same, patients),
        "report_to_image": _recalls(texts, pictures, same, patients),
    }


def ranks(queries: np.ndarray, gallery: np.ndarray, same: np.ndarray) -> np.ndarray:
    """Return the rank, from 1, of each query's best right answer; a tie with a wrong one is lost.

    Args:
        queries: (N, E) unit vectors.
        gallery: (N, E) unit vectors of the answers.
        same: (N,) numbers, equal where an answer is right for a query.
    """
    found = []
    for first in range(0, len(queries), CHUNK):
        cosines = queries[first : first + CHUNK] @ gallery.T
        right = same[first : first + CHUNK, None] == same
        best = np.where(right, cosines, -np.inf).max(axis=1, keepdims=True)
        found.append(1 + (~right & (cosines >= best)).sum(axis=1))
    return np.concatenate(found)


def _recalls(
    queries: np.ndarray, gallery: np.ndarray, same: np.ndarray, patients: Sequence[str]
) -> dict[str, dict[str, float | None]]:
    places = ranks(queries, gallery, same)
    right, count = np.bincount(same)[same], len(same)
    found = {}
    for k in PLACES:
        recall = rate((places <= k).astype(float), patients)
        assert recall is not None
        by_chance = float(np.mean([chance(count, int(number), k) for number in right]))
        found[str(k)] = recall._asdict() | {"chance": by_chance}
    return found


def chance(count: int, right: int, k: int) -> float:
    """Return the probability that k of `count` answers, drawn at random, hold a right one."""
    k = min(k, count)
    return 1 - comb(count - right, k) / comb(count, k)


def _encoded(model: MaMA, reports: Sequence[Sequence[str]], device: torch.device) -> torch.Tensor:
    model.eval()
    rows = []
    for first in range(0, len(reports), CHUNK):
        tokens = model.text.tokenise([list(one) for one in reports[first : first + CHUNK]])
        texts = model.encode_texts(tokens.to(device), local=False).embedding
        rows.append(F.normalize(texts.float(), dim=-1).cpu())
    return torch.cat(rows)
