"""Attacks on a site's update: gradient matching, membership inference, adapters' row spaces."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks.privacy.inversion_measures import auc
from mama.config import Experiment
from mama.data.augment import normalise, on_canvas
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, StudyPairs
from mama.data.studies import Study
from mama.model import MaMA
from mama.training.objective import active_terms, encode, losses, weighted_sum
from mama.training.trainer import Trainer

SMOOTH = 0.005  # weight of the total variation
PRIOR = 64  # films of the attacker's own hospital
Named = dict[str, Tensor]


class Prior(NamedTuple):
    """Attacker's hospital: `films` (P, 1, H, W), their `mean`, and the `inside` of most breasts."""

    films: Tensor
    mean: Tensor
    inside: Tensor
    studies: list[Study]


def objective(model: MaMA, batch: Batch, experiment: Experiment) -> Tensor:
    """Return the loss of the first step's terms."""
    terms = active_terms(experiment.loss, 0)
    values = losses(
        encode(model, batch, terms), model.logit_scale, model.local_scale, experiment.loss, terms
    )
    return weighted_sum(values, experiment.loss)


def gradient(model: MaMA, batch: Batch, experiment: Experiment) -> Named:
    """Return the gradient of that loss by trained parameter."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = objective(model, batch, experiment)
    parts = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    return {n: g.detach() for n, g in zip(trained, parts, strict=True) if g is not None}


def update(model: MaMA, pairs: StudyPairs, experiment: Experiment, steps: range) -> Named:
    """Train the model for these steps and return the change of the weights as it is sent."""
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    Trainer(model, pairs, experiment, torch.device("cpu")).train(steps.start, len(steps))
    after = dict(model.named_parameters())
    return {n: after[n].detach() - b for n, b in before.items()}


def view(dataset: Dataset, study: Study, experiment: Experiment) -> np.ndarray:
    """Return a study's first film on the canvas."""
    config = experiment.image
    return on_canvas(dataset.pixels(study.images[0]), config.size, config.layout)


def prior_of(birch: Dataset, experiment: Experiment) -> Prior:
    studies = birch.studies("train")[:PRIOR]
    films = normalise([view(birch, study, experiment) for study in studies])
    return Prior(films, films.mean(0), (films > -1).float().mean(0)[0] > 0.3, list(studies))


def reconstructed(  # noqa: PLR0913  (all that the attacker knows)
    model: MaMA,
    change: Named,
    batch: Batch,
    prior: Prior,
    experiment: Experiment,
    iterations: int,
    *,
    signs: bool,
) -> tuple[Tensor, float]:
    """Return films (2N, 1, H, W) whose gradient points against the change, and its cosine.

    The first views precede the second ones.
    """
    model.eval()
    pulled = gradient(model, batch, experiment)
    names = [n for n in pulled if n.startswith(("image.", "image_projection.", "view_head."))]
    parameters = dict(model.named_parameters())
    terms = active_terms(experiment.loss, 0)
    with torch.no_grad():
        known = encode(model, batch, terms)
    count = len(batch)
    torch.manual_seed(experiment.seed)
    start = prior.mean.clamp(-0.98, 0.98).atanh().repeat(2 * count, 1, 1, 1)
    free = (start + 0.1 * torch.randn_like(start)).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=0.05)
    schedule = torch.optim.lr_scheduler.MultiStepLR(
        optimiser, [int(iterations * part) for part in (0.4, 0.65, 0.9)], 0.3
    )
    goal = {n: -change[n] for n in names}
    scale = None
    for _ in range(iterations):
        films = torch.where(prior.inside, free.tanh().clamp(min=-0.99), torch.tensor(-1.0))
        with sdpa_kernel(SDPBackend.MATH):
            first, second = model.encode_images(films[:count]), model.encode_images(films[count:])
            guess = known._replace(
                first=first.embedding,
                first_view=first.view,
                second=second.embedding,
                second_view=second.view,
            )
            values = losses(guess, model.logit_scale, model.local_scale, experiment.loss, terms)
            total = weighted_sum(values, experiment.loss)
            parts = torch.autograd.grad(total, [parameters[n] for n in names], create_graph=True)
        if signs:
            if scale is None:
                scale = [part.detach().abs().median().clamp(min=1e-12) for part in parts]
            parts = [(part / size).tanh() for part, size in zip(parts, scale, strict=True)]
        apart = 1 - F.cosine_similarity(
            torch.cat([part.flatten() for part in parts]),
            torch.cat([goal[n].flatten() for n in names]),
            dim=0,
        )
        rough = (films.diff(dim=2).abs().mean() + films.diff(dim=3).abs().mean()) * SMOOTH
        (pull,) = torch.autograd.grad(apart + rough, [free])
        free.grad = pull
        optimiser.step()
        schedule.step()
    return films.detach(), 1 - apart.item()


def membership(  # noqa: PLR0913  (all that the attacker knows)
    model: MaMA,
    change: Named,
    inside: Sequence[Study],
    outside: Sequence[Study],
    alder: Dataset,
    reference: Batch,
    experiment: Experiment,
) -> dict[str, float]:
    """Return AUCs of two tests that distinguish the trained studies `inside` from `outside`."""
    model.eval()
    after = copy.deepcopy(model)
    with torch.no_grad():
        for name, parameter in after.named_parameters():
            if name in change:
                parameter += change[name]
    base = gradient(model, reference, experiment)
    along, drop = [], []
    for study in (*inside, *outside):
        joint = joined(batch_of(alder, [study], experiment), reference)
        own = gradient(model, joint, experiment)
        pulls = torch.cat([(own[n] - base[n]).flatten() for n in own])
        goal = torch.cat([-change[n].flatten() for n in own])
        along.append(float(F.cosine_similarity(pulls, goal, dim=0)))
        drop.append(
            objective(model, joint, experiment).item() - objective(after, joint, experiment).item()
        )
    count = len(inside)
    return {
        "membership_auc_cosine": auc(along[:count], along[count:]),
        "membership_auc_loss": auc(drop[:count], drop[count:]),
    }


def joined(one: Batch, reference: Batch) -> Batch:
    return Batch(
        torch.cat([one.first, reference.first]),
        torch.cat([one.second, reference.second]),
        one.reports + reference.reports,
        torch.cat([one.second_described, reference.second_described]),
    )


def batch_of(dataset: Dataset, studies: Sequence[Study], experiment: Experiment) -> Batch:
    """Return a batch of studies without augmentation; both views are the first film."""
    films = normalise([view(dataset, study, experiment) for study in studies])
    reports = [list(s.texts(s.images[0].laterality)) for s in studies]
    return Batch(films, films, reports, torch.ones(len(studies), dtype=torch.bool))


@torch.no_grad()
def words(
    model: MaMA, change: Named, control: Named, batches: list[Batch], birch: Dataset
) -> dict[str, float]:
    """Rank tokens of the batches and of birch by the row space of the first layer's adapters."""
    text = model.text
    present = {int(t) for b in batches for t in text.tokenise(b.reports).ids.flatten()}
    frequent = Counter(
        int(t)
        for study in birch.studies("train")
        for t in text.tokenise([study.texts()]).ids.flatten()
    )
    known = sorted(present | set(frequent))
    score, plain = (scores(model, known, one) for one in (change, control))
    inside, outside = [t for t in known if t in present], [t for t in known if t not in present]
    best = sorted(known, key=lambda t: -score[t])[: len(present)]
    guessed = sorted(known, key=lambda t: -frequent[t])[: len(present)]
    return {
        "word_auc": auc([score[t] for t in inside], [score[t] for t in outside]),
        "word_auc_of_birchs_update": auc([plain[t] for t in inside], [plain[t] for t in outside]),
        "word_auc_frequent": auc([frequent[t] for t in inside], [frequent[t] for t in outside]),
        "word_precision": len(present & set(best)) / len(present),
        "word_precision_frequent": len(present & set(guessed)) / len(present),
        "word_precision_chance": len(present) / len(known),
    }


def scores(model: MaMA, tokens: list[int], change: Named) -> dict[int, float]:
    """Return each token's largest share, over positions, within the row space of `lora_A`."""
    names = [n for n in change if "layer.0." in n and "lora_A" in n]
    rows = torch.cat([change[n] for n in names])
    space = torch.linalg.svd(rows, full_matrices=False).Vh
    parts = model.text.backbone.embeddings
    inputs = parts.LayerNorm(
        parts.word_embeddings.weight[tokens][:, None]
        + parts.position_embeddings.weight[None, :32]
        + parts.token_type_embeddings.weight[0]
    )
    inputs = inputs - inputs.mean((0, 1))
    share = (inputs @ space.T).norm(dim=-1) / inputs.norm(dim=-1)
    return dict(zip(tokens, share.amax(1).tolist(), strict=True))
