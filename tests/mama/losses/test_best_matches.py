"""mean_best_cosines: reference, ties, lower precision, saved tensors, devices."""

from dataclasses import dataclass, replace
from unittest.mock import patch

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing import assert_close

from mama.losses import best_matches
from mama.losses.best_matches import mean_best_cosines

TENSORS = ("patches", "rows", "sentences", "weights")


@dataclass
class Case:
    """Random arguments; all patches but a few count, in no order."""

    patches: Tensor
    rows: Tensor
    counts: list[int]
    sentences: Tensor
    weights: Tensor

    def similarities(self, scores: torch.dtype | None = None) -> tuple[Tensor, Tensor]:
        return mean_best_cosines(
            self.patches,
            self.rows,
            self.counts,
            self.sentences,
            self.weights,
            scores or self.sentences.dtype,
        )

    def gradients(self, t2i: Tensor, i2t: Tensor) -> tuple[Tensor, ...]:
        """Of a random mixture of the similarities, with respect to patches and sentences."""
        generator = torch.Generator().manual_seed(1)
        mixture = sum(
            (x * torch.randn(x.shape, generator=generator, dtype=x.dtype)).sum() for x in (t2i, i2t)
        )
        return torch.autograd.grad(mixture, (self.patches, self.sentences), retain_graph=True)


def make_case(
    counts: list[int],
    reports: int,
    most: int,
    width: int,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> Case:
    generator = torch.Generator().manual_seed(seed)
    patches = torch.randn(sum(counts) + 3, width, generator=generator, dtype=dtype)
    sentences = torch.randn(reports, most, width, generator=generator, dtype=dtype)
    weights = torch.rand(reports, most, generator=generator, dtype=dtype)
    return Case(
        patches.requires_grad_(),
        torch.randperm(len(patches), generator=generator)[: sum(counts)],
        counts,
        F.normalize(sentences, dim=-1).requires_grad_(),
        weights / weights.sum(1, keepdim=True),
    )


def twin(case: Case) -> tuple[Tensor, Tensor]:
    """All cosines of an image with all sentences, differentiated by PyTorch."""
    t2i, i2t = [], []
    for rows in case.rows.split(case.counts):
        units = F.normalize(case.patches[rows], dim=-1)
        cosines = torch.einsum("pc,rsc->prs", units, case.sentences)
        t2i.append((cosines.max(0).values * case.weights).sum(1))
        i2t.append(cosines.max(2).values.mean(0))
    return torch.stack(t2i, dim=1), torch.stack(i2t, dim=1)


@given(
    st.lists(st.integers(1, 40), min_size=1, max_size=4),
    st.integers(1, 5),
    st.integers(1, 6),
    st.integers(1, 9),
    st.integers(0, 10**6),
)
@settings(max_examples=60, deadline=None)
def test_values_and_gradients_equal_the_plain_twin(
    counts: list[int], reports: int, most: int, width: int, seed: int
) -> None:
    case = make_case(counts, reports, most, width, seed)
    expected = twin(case)
    # One image at a time, several, and all at once.
    for scores in (0, 40 * reports * most, 10**6):
        with patch.dict(best_matches.SCORES_AT_ONCE, cpu=scores):
            found = case.similarities()
            assert_close(found, expected, rtol=1e-10, atol=1e-14)
            if width > 1:  # else all cosines are 1 or -1, and ties are anyone's
                gradients = case.gradients(*found)
                assert_close(gradients, case.gradients(*expected), rtol=1e-10, atol=1e-13)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_values_and_gradients_on_a_gpu() -> None:
    case = make_case([40, 3, 29], reports=5, most=6, width=9)
    expected = twin(case)
    own = replace(case, **{name: getattr(case, name).cuda() for name in TENSORS})
    found = own.similarities()
    assert_close([x.cpu() for x in found], list(expected), rtol=1e-10, atol=1e-14)
    weights = [torch.randn_like(x) for x in expected]
    total = sum((x * w.cuda()).sum() for x, w in zip(found, weights, strict=True))
    gradients = torch.autograd.grad(total, (own.patches, own.sentences))
    total = sum((x * w).sum() for x, w in zip(expected, weights, strict=True))
    for one, other in zip(
        gradients, torch.autograd.grad(total, (case.patches, case.sentences)), strict=True
    ):
        assert_close(one.cpu(), other, rtol=1e-10, atol=1e-13)


def test_gradcheck() -> None:
    case = make_case([3, 5], reports=3, most=2, width=4)
    assert torch.autograd.gradcheck(
        lambda p, s: mean_best_cosines(p, case.rows, case.counts, s, case.weights, torch.float64),
        (case.patches, case.sentences),
    )


def test_ties_do_not_split() -> None:
    """Two equal patches and two equal sentences: one of each gets the whole gradient."""
    case = make_case([2], reports=1, most=2, width=4)
    pair = torch.eye(2, 4, dtype=torch.float64)
    case.patches, case.rows = pair[:1].repeat(2, 1).requires_grad_(), torch.arange(2)
    case.sentences = F.normalize(pair.sum(0), dim=0).repeat(1, 2, 1).requires_grad_()
    t2i, i2t = case.similarities()
    (patches,) = torch.autograd.grad(t2i.sum(), case.patches, retain_graph=True)
    (sentences,) = torch.autograd.grad(i2t.sum(), case.sentences)
    assert patches.any(1).sum() == 1
    assert sentences[0].any(1).sum() == 1
    assert_close(patches.sum(0), pair[1] / 2**0.5)
    assert_close(sentences.sum((0, 1)), pair[0])


@pytest.mark.parametrize("scores", [torch.bfloat16, torch.float16])
def test_lower_scores_change_little_and_results_stay_fp32(scores: torch.dtype) -> None:
    case = make_case([150, 200, 90], reports=6, most=5, width=64, dtype=torch.float32)
    low, full = case.similarities(scores), case.similarities()
    # Each of a few maxima is rounded; over many patches that averages out, if the mean is fp32.
    for found, expected, error in zip(low, full, (1e-3, 2e-4), strict=True):
        assert found.dtype == torch.float32
        assert not torch.equal(found, expected)
        assert_close(found, expected, rtol=0, atol=error)
    pairs = zip(case.gradients(*low), case.gradients(*full), strict=True)
    for found, expected in pairs:
        assert found.dtype == torch.float32
        assert F.cosine_similarity(found.flatten(), expected.flatten(), dim=0) > 0.99


def test_a_single_patch_shows_the_scores_dtype() -> None:
    case = make_case([1, 1, 1], reports=6, most=5, width=64, dtype=torch.float32)
    _, i2t = case.similarities(torch.bfloat16)
    assert torch.equal(i2t, i2t.bfloat16().float())


def test_patches_that_do_not_count_are_never_read() -> None:
    case = make_case([4, 6], reports=2, most=3, width=5)
    others = torch.ones(len(case.patches), dtype=torch.bool)
    others[case.rows] = False
    with torch.no_grad():
        case.patches[others] = torch.nan
    patches, sentences = case.gradients(*case.similarities())
    assert not patches[others].any()
    assert patches[~others].all()
    assert sentences.isfinite().all()


def test_more_patches_than_int16_counts() -> None:
    case = make_case([40_000], reports=2, most=2, width=2)
    with torch.no_grad():
        case.patches[case.rows[-1]] = case.sentences[0, 0]
    found, expected = case.similarities(), twin(case)
    assert_close(found, expected, rtol=1e-10, atol=0)
    assert_close(case.gradients(*found), case.gradients(*expected), rtol=1e-10, atol=1e-12)


def test_only_the_places_of_the_best_are_kept() -> None:
    case = make_case([300, 200], reports=8, most=6, width=4)
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        case.similarities()
    arguments = (case.patches, case.rows, case.sentences, case.weights)
    for argument in arguments:
        kept.pop(argument.data_ptr(), None)
    places = 2 * (500 * 8 + 2 * 8 * 6)  # int16: a sentence a patch and report, a patch a sentence
    assert sum(kept.values()) == places


@pytest.mark.parametrize("frozen", ["patches", "sentences"])
def test_inputs_need_not_all_require_gradients(frozen: str) -> None:
    case = make_case([4, 3], reports=2, most=3, width=5)
    free = "sentences" if frozen == "patches" else "patches"
    gradients = []
    for part in (case, replace(case, **{frozen: getattr(case, frozen).detach()})):
        t2i, i2t = part.similarities()
        gradients += torch.autograd.grad((t2i * i2t).sum(), getattr(part, free))
    assert torch.equal(*gradients)


def test_without_gradients_the_values_are_the_same() -> None:
    case = make_case([4, 3], reports=2, most=3, width=5)
    with torch.no_grad():
        found = case.similarities()
    assert not any(x.requires_grad for x in found)
    assert_close(found, case.similarities(), rtol=0, atol=0)


def test_a_second_derivative_is_refused() -> None:
    case = make_case([4], reports=2, most=3, width=5)
    t2i, _ = case.similarities()
    (gradient,) = torch.autograd.grad(t2i.square().sum(), case.patches, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_everything_stays_on_the_arguments_device() -> None:
    """Shapes and devices only: a tensor made on the CPU would not mix with these."""
    with FakeTensorMode():
        patches, rows = torch.randn(7, 4, device="cuda"), torch.arange(7, device="cuda")
        sentences, weights = torch.randn(2, 3, 4, device="cuda"), torch.rand(2, 3, device="cuda")
        t2i, i2t = mean_best_cosines(patches, rows, [3, 4], sentences, weights, torch.bfloat16)
    assert t2i.device.type == i2t.device.type == "cuda"
    assert t2i.shape == i2t.shape == (2, 2)
