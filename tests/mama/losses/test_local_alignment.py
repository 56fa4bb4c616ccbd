"""local_alignment_loss: reference, empty reports, padding, soft targets, precision, bad shapes."""

import math
from dataclasses import dataclass, replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from mama.losses import local_alignment_loss


@dataclass
class Batch:
    """The arguments of the loss; 0 to 4 real sentences and 0 to 5 real patches a pair, anywhere."""

    patches: Tensor
    sentences: Tensor
    sentence_mask: Tensor
    log_scale: Tensor
    patch_mask: Tensor | None
    positives: Tensor | None

    def loss(self) -> Tensor:
        return local_alignment_loss(
            self.patches,
            self.sentences,
            self.sentence_mask,
            self.log_scale,
            patch_mask=self.patch_mask,
            positives=self.positives,
        )

    def gradients(self) -> list[Tensor]:
        leaves = (self.patches, self.sentences, self.log_scale)
        return list(torch.autograd.grad(self.loss(), leaves))

    def take(self, pairs: list[int]) -> "Batch":
        """The batch of these pairs, in this order."""
        return Batch(
            self.patches.detach()[pairs].requires_grad_(),
            self.sentences.detach()[pairs].requires_grad_(),
            self.sentence_mask[pairs],
            self.log_scale,
            None if self.patch_mask is None else self.patch_mask[pairs],
            None if self.positives is None else self.positives[pairs][:, pairs],
        )


def make_batch(
    seed: int = 0, n: int = 5, *, empty: tuple[int, ...] = (), masked: bool = True
) -> Batch:
    """A random batch in float64; reports in `empty` have no sentence, all others at least one."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    def mask(*shape: int) -> Tensor:
        real = torch.rand(*shape, generator=generator) < 0.6
        return real | torch.eye(shape[1], dtype=torch.bool)[torch.arange(shape[0]) % shape[1]]

    sentence_mask = mask(n, 4)
    sentence_mask[list(empty)] = False
    related = torch.rand(n, n, generator=generator) < 0.3
    return Batch(
        patches=random(n, 5, 6),
        sentences=random(n, 4, 6),
        sentence_mask=sentence_mask,
        log_scale=torch.tensor(1.3, dtype=torch.float64, requires_grad=True),
        patch_mask=mask(n, 5) if masked else None,
        positives=related | related.T if masked else None,
    )


def twin(batch: Batch) -> Tensor:
    """The definition, token by token and report by report."""
    n = len(batch.patches)

    def real(vectors: Tensor, mask: Tensor | None) -> list[Tensor]:
        true = [mask is None or bool(mask[k]) for k in range(len(vectors))]
        lengths = [vector.square().sum().sqrt() for vector in vectors]
        return [vectors[k] / lengths[k] for k in range(len(vectors)) if true[k]]

    image = [
        real(batch.patches[i], None if batch.patch_mask is None else batch.patch_mask[i])
        for i in range(n)
    ]
    report = [real(batch.sentences[i], batch.sentence_mask[i]) for i in range(n)]
    kept = [i for i in range(n) if image[i] and report[i]]

    def best(token: Tensor, others: list[Tensor]) -> Tensor:
        return torch.stack([(token * other).sum() for other in others]).max()

    def alignment(tokens: list[Tensor], others: list[Tensor]) -> Tensor:
        mean = torch.stack([best(token, others) for token in tokens]).mean()
        return batch.log_scale.exp() * mean

    t2i = {(i, j): alignment(report[i], image[j]) for i in kept for j in kept}
    i2t = {(i, j): alignment(image[j], report[i]) for i in kept for j in kept}
    loss = 0 * batch.log_scale
    for i in kept:
        same = [
            j
            for j in kept
            if i == j or (batch.positives is not None and bool(batch.positives[i, j]))
        ]
        for scores in (t2i, i2t):
            row = {j: scores[i, j] for j in kept}
            column = {j: scores[j, i] for j in kept}
            for logits in (row, column):
                log_sum = torch.stack(list(logits.values())).logsumexp(0)
                for j in same:
                    loss = loss + (log_sum - logits[j]) / len(same) / len(kept)
    return loss


@given(st.integers(0, 10**6), st.integers(1, 5), st.booleans(), st.data())
@settings(max_examples=40, deadline=None)
def test_value_and_gradients_equal_the_plain_twin(
    seed: int, n: int, masked: bool, data: st.DataObject
) -> None:
    pair = st.integers(0, n - 1)
    batch = make_batch(seed, n, empty=tuple(data.draw(st.sets(pair))), masked=masked)
    if batch.patch_mask is not None:
        batch.patch_mask[list(data.draw(st.sets(pair, max_size=1)))] = False
    expected = twin(batch)
    assert_close(batch.loss(), expected, rtol=1e-10, atol=1e-12)
    leaves = (batch.patches, batch.sentences, batch.log_scale)
    gradients = torch.autograd.grad(expected, leaves, materialize_grads=True)
    assert_close(batch.gradients(), list(gradients), rtol=1e-10, atol=1e-11)


def test_known_value() -> None:
    """Image 0 holds both reports' only sentence, image 1 that of neither."""
    first, second = torch.eye(3)[0], torch.eye(3)[1]
    patches = torch.stack([torch.stack([first, second]), torch.eye(3)[2].expand(2, 3)])
    sentences = torch.stack([first, second])[:, None]
    value = local_alignment_loss(
        patches, sentences, torch.ones(2, 1, dtype=torch.bool), torch.tensor(0.0)
    )
    # t2i = [[1, 0], [1, 0]], i2t = [[1/2, 0], [1/2, 0]]; rows first, columns second.
    t2i = (math.log(math.e + 1) - 0.5) + math.log(2)
    i2t = (math.log(math.exp(0.5) + 1) - 0.25) + math.log(2)
    assert value.item() == pytest.approx(t2i + i2t, rel=1e-5)


@pytest.mark.parametrize("masked", [False, True])
def test_empty_reports_are_removed_as_row_and_column(masked: bool) -> None:
    batch = make_batch(n=6, empty=(1, 4), masked=masked)
    rest = [0, 2, 3, 5]
    part = batch.take(rest)
    assert_close(batch.loss(), part.loss(), rtol=1e-14, atol=0)
    patches, sentences, log_scale = batch.gradients()
    part_patches, part_sentences, part_log_scale = part.gradients()
    assert_close(patches[rest], part_patches)
    assert_close(sentences[rest], part_sentences)
    assert_close(log_scale, part_log_scale)
    assert not patches[[1, 4]].any()
    assert not sentences[[1, 4]].any()


def test_images_without_patch_are_removed_as_row_and_column() -> None:
    batch = make_batch(n=4)
    assert batch.patch_mask is not None
    batch.patch_mask[2] = False
    assert_close(batch.loss(), batch.take([0, 1, 3]).loss(), rtol=1e-14, atol=0)
    assert not batch.gradients()[0][2].any()


@pytest.mark.parametrize("width", [0, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_no_sentence_at_all_gives_zero_with_zero_gradients(width: int, masked: bool) -> None:
    batch = make_batch(n=3, empty=(0, 1, 2), masked=masked)
    batch.sentences = batch.sentences.detach()[:, :width].requires_grad_()
    batch.sentence_mask = batch.sentence_mask[:, :width]
    assert batch.loss().item() == 0
    assert batch.loss().shape == ()
    leaves = (batch.patches, batch.sentences, batch.log_scale)
    for leaf, gradient in zip(leaves, batch.gradients(), strict=True):
        assert gradient.shape == leaf.shape
        assert not gradient.any()


def test_no_patch_at_all_gives_zero_with_zero_gradients() -> None:
    batch = make_batch(n=3, masked=False)
    batch.patches = batch.patches.detach()[:, :0].requires_grad_()
    assert batch.loss().item() == 0
    assert not any(gradient.any() for gradient in batch.gradients())


@pytest.mark.parametrize("filling", [0.0, 1e6, math.inf, math.nan])
def test_padding_has_no_effect_and_no_gradient(filling: float) -> None:
    batch = make_batch(n=5, empty=(3,))
    assert batch.patch_mask is not None
    batch.patch_mask[2] = False
    filled = replace(
        batch,
        patches=batch.patches.detach()
        .masked_fill(~batch.patch_mask[..., None], filling)
        .requires_grad_(),
        sentences=batch.sentences.detach()
        .masked_fill(~batch.sentence_mask[..., None], filling)
        .requires_grad_(),
    )
    assert torch.equal(filled.loss(), batch.loss())
    for gradient, expected in zip(filled.gradients(), batch.gradients(), strict=True):
        assert torch.equal(gradient, expected)
    patches, sentences, _ = filled.gradients()
    assert not patches[~batch.patch_mask].any()
    assert not sentences[~batch.sentence_mask].any()


def test_patch_mask_equals_dropping_the_patches() -> None:
    batch = make_batch(n=4, masked=False)
    real = torch.tensor([True, False, True, True, False])
    masked = replace(batch, patch_mask=real.expand(4, 5))
    dropped = replace(batch, patches=batch.patches.detach()[:, real].requires_grad_())
    assert_close(masked.loss(), dropped.loss())
    assert_close(masked.gradients()[0][:, real], dropped.gradients()[0])


def test_identity_as_same_is_the_plain_loss() -> None:
    batch = make_batch(n=5, empty=(1,), masked=False)
    for same in (torch.eye(5, dtype=torch.bool), torch.zeros(5, 5, dtype=torch.bool)):
        assert_close(replace(batch, positives=same).loss(), batch.loss(), rtol=1e-14, atol=0)


def test_pairs_with_same_may_exchange_their_images() -> None:
    batch = make_batch(n=4, masked=False)
    same = torch.eye(4, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    exchanged = replace(batch, patches=batch.patches[[1, 0, 2, 3]])
    assert_close(replace(exchanged, positives=same).loss(), replace(batch, positives=same).loss())
    assert abs(exchanged.loss() - batch.loss()) > 0.01


def test_order_of_pairs_and_tokens_does_not_matter() -> None:
    batch = make_batch(n=5, empty=(3,))
    assert_close(batch.take([3, 1, 4, 0, 2]).loss(), batch.loss())
    patches, sentences = torch.tensor([4, 2, 0, 3, 1]), torch.tensor([2, 0, 3, 1])
    assert batch.patch_mask is not None
    shuffled = replace(
        batch,
        patches=batch.patches[:, patches],
        patch_mask=batch.patch_mask[:, patches],
        sentences=batch.sentences[:, sentences],
        sentence_mask=batch.sentence_mask[:, sentences],
    )
    assert_close(shuffled.loss(), batch.loss())


def test_length_of_vectors_does_not_matter() -> None:
    batch = make_batch(n=5)
    longer = replace(batch, patches=1e3 * batch.patches, sentences=1e-3 * batch.sentences)
    assert_close(longer.loss(), batch.loss())


def test_one_pair_costs_nothing() -> None:
    batch = make_batch(n=1)
    assert batch.loss().item() == 0
    for gradient in batch.gradients():
        assert not gradient.any()


def test_zero_vectors_have_finite_gradients() -> None:
    batch = make_batch(n=3, masked=False)
    batch.patches = torch.zeros_like(batch.patches).requires_grad_()
    for gradient in batch.gradients():
        assert gradient.isfinite().all()


def test_autocast_does_not_coarsen_the_logits() -> None:
    batch = make_batch(n=5, empty=(1,))
    low = replace(
        batch,
        patches=batch.patches.detach().bfloat16(),
        sentences=batch.sentences.detach().bfloat16(),
        log_scale=torch.tensor(math.log(100.0)),
    )
    full = replace(low, patches=low.patches.double(), sentences=low.sentences.double())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = low.loss()
    assert value.dtype == torch.float32
    assert_close(value.double(), full.loss(), rtol=1e-5, atol=0)


def test_autocast_does_not_coarsen_the_backward_pass() -> None:
    batch = make_batch(n=5, empty=(1,))
    low = replace(
        batch,
        patches=batch.patches.detach().float().requires_grad_(),
        sentences=batch.sentences.detach().float().requires_grad_(),
    )
    outside = low.gradients()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = low.gradients()
    assert_close(inside, outside, rtol=0, atol=0)


def test_bfloat16_inputs_get_bfloat16_gradients_near_the_full_ones() -> None:
    batch = make_batch(n=5)
    low = batch.patches.detach().bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        sentences = batch.sentences.float()
        (gradient,) = torch.autograd.grad(
            replace(batch, patches=low, sentences=sentences).loss(), low
        )
    assert gradient.dtype == torch.bfloat16
    expected = batch.gradients()[0]
    assert_close(gradient.double(), expected, rtol=0, atol=0.02 * float(expected.abs().max()))


def test_bfloat16_scores_change_value_and_gradients_little() -> None:
    generator = torch.Generator().manual_seed(0)
    leaves = [torch.randn(6, size, 64, generator=generator).requires_grad_() for size in (90, 7)]
    mask = torch.rand(6, 7, generator=generator) < 0.7
    values = [
        local_alignment_loss(*leaves, mask, torch.tensor(math.log(50.0)), score_dtype=scores)
        for scores in (torch.bfloat16, None)
    ]
    assert values[0].dtype == torch.float32
    assert values[0] != values[1]
    assert_close(*values, rtol=0.01, atol=0)
    for leaf in leaves:
        low, full = (torch.autograd.grad(v, leaf, retain_graph=True)[0].flatten() for v in values)
        assert torch.nn.functional.cosine_similarity(low, full, dim=0) > 0.99


def test_float64_is_always_scored_in_float64() -> None:
    batch = make_batch(n=4, masked=False)
    value = local_alignment_loss(
        batch.patches,
        batch.sentences,
        batch.sentence_mask,
        batch.log_scale,
        score_dtype=torch.bfloat16,
    )
    assert torch.equal(value, batch.loss())


def test_gradcheck() -> None:
    batch = make_batch(seed=3, n=3, empty=(1,))
    assert torch.autograd.gradcheck(
        lambda p, s, scale: replace(batch, patches=p, sentences=s, log_scale=scale).loss(),
        (batch.patches, batch.sentences, batch.log_scale),
    )


def test_bad_shapes_are_refused() -> None:
    batch = make_batch(n=3)
    bad = {
        "patches must be": replace(batch, patches=batch.patches[:2]),
        "sentences": replace(batch, sentences=batch.sentences[..., :4]),
        "sentence_mask must be bool": replace(batch, sentence_mask=batch.sentence_mask[:, :3]),
        "patch_mask must be bool": replace(batch, patch_mask=torch.ones(3, 5)),
        "positives must be bool": replace(batch, positives=torch.ones(2, 2, dtype=torch.bool)),
    }
    for message, wrong in bad.items():
        if message.startswith("patches"):
            wrong.patch_mask = None
        with pytest.raises(ValueError, match=message):
            wrong.loss()
