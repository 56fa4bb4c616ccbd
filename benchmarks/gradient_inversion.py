"""Pictures, words and membership that an honest coordinator can read out of one site's update.

    python benchmarks/gradient_inversion.py [--seeds 0 1 2] [--batches 2 8 16] [--iterations 150] [--set a.b=value]

One hospital like those of configs/quickstart.yaml trains as configured from an honest model; the attacker is the
coordinator, which knows the experiment and the model and has a hospital of its own (`birch`) as prior. It is given
more than it would have: the reports of the batch when it looks for pictures, and the candidates' own films when it tests
membership. It sees one of
  gradient  the raw gradient of one step (never sent by default; the upper bound)
  step      AdamW's update of one step
  round     the update of a whole round (`federation.local_steps` steps)
Pictures: gradient matching by cosine with a total-variation prior and Adam steps (after Geiping et al., NeurIPS 2020)
from the mean film of the attacker's hospital. AdamW hides sizes, so `step` and `round` are matched by soft signs.
Words: the share of a token's first-layer input within the row space of the change of `lora_A` (after DAGER, Petrov et
al., NeurIPS 2024), beside guessing the attacker's own most frequent words.
Membership: the cosine of the update with a candidate's gradient among reference studies, and the drop of its loss.
Each figure stands beside its plain baseline and as the ratio to it; `corr` is over pixels after the mean film is
taken off, and its baseline is the same matching with as many patients that were not in the batch.
"""

import argparse
import copy
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from common import last_line
from scipy.ndimage import gaussian_filter
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from client.sitefile import load_site
from mama.config import Experiment
from mama.configfile import load
from mama.data.augment import normalise, on_canvas
from mama.data.manifest import Dataset, Study
from mama.data.pairs import Batch, StudyPairs
from mama.data.sentences import for_side
from mama.model import MaMA, build_model
from mama.objective import active_terms, encode, losses, weighted_sum
from mama.trainer import Trainer
from sim.config import SimulatedExperiment
from sim.sites import make_sites

CONFIG = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
SMOOTH = 0.005  # weight of the total variation
PRIOR = 64  # films of the attacker's own hospital
Named = dict[str, Tensor]


class Prior(NamedTuple):
    """The attacker's hospital: `films` (P, 1, H, W), their `mean`, and the `inside` (H, W) of most breasts."""

    films: Tensor
    mean: Tensor
    inside: Tensor
    studies: list[Study]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 8, 16])
    parser.add_argument("--iterations", type=int, default=100)
    parser.add_argument("--sites", type=Path, help="folder for the hospitals, kept for the next run")
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        out = options.sites or Path(folder)
        make_sites(load(SimulatedExperiment, CONFIG, options.set), out, None, lambda *_: None)
        alder, birch = (
            Dataset(load_site(out / "sites" / name / "site.yaml").data.dataset)
            for name in ("alder", "birch")
        )
        result = {}
        for batch in options.batches:
            for seed in options.seeds:
                over = [*options.set, f"seed={seed}", f"optimiser.batch_size={batch}"]
                experiment = load(SimulatedExperiment, CONFIG, over).experiment()
                begin = time.process_time()
                found = measured(experiment, alder, birch, options.iterations)
                for name, value in found.items():
                    result.setdefault(f"{name}_{batch}", []).append(round(value, 3))
                print(f"batch {batch} seed {seed}: {time.process_time() - begin:.0f} s", flush=True)
            for name in (name for name in result if name.endswith(f"_{batch}")):
                print(f"  {name:36} {np.mean(result[name]):6.3f}  {result[name]}", flush=True)
    last_line(result | {"iterations": options.iterations})


def measured(
    experiment: Experiment, alder: Dataset, birch: Dataset, iterations: int
) -> dict[str, float]:
    """All figures of one seed and batch size."""
    pairs = StudyPairs(alder, experiment, "alder")
    prior = prior_of(birch, experiment)
    seen: dict[str, Named] = {}
    model = build_model(experiment)
    batch = pairs.batch(0)
    seen["gradient"] = {n: -g for n, g in gradient(model, batch, experiment).items()}
    seen["step"] = update(model, pairs, experiment, range(1))
    model = build_model(experiment)
    steps = experiment.federation.local_steps
    seen["round"] = update(model, pairs, experiment, range(steps))
    fresh = build_model(experiment)
    others = [
        view(alder, study, experiment)
        for study in alder.studies("test")[: len(batch)]
    ]
    reference = batch_of(birch, prior.studies[:7], experiment)
    found: dict[str, float] = {}
    for name, change in seen.items():
        films, found[f"{name}_cosine_reached"] = reconstructed(fresh, change, batch, prior, experiment, iterations, signs=name != "gradient")
        for key, value in pictures(films, batch.first, normalise(others), prior).items():
            found[f"{name}_{key}"] = value
        # A round draws all patients of the training split, so outsiders are those of the test split.
        members = pairs._patients_of(0) if name != "round" else pairs.patients[:32]
        inside = [studies[0] for studies in members]
        keys = {study.patient for study in inside}
        rest = alder.studies("train" if name != "round" else "test")
        outside = [study for study in rest if study.patient not in keys][:32]
        tested = membership(fresh, change, inside, outside, alder, reference, experiment)
        found |= {f"{name}_{key}": value for key, value in tested.items()}
    # `model` has lora_B away from 0 now, as from the second round on.
    second = gradient(model, batch, experiment)
    found |= {f"gradient_{k}": v for k, v in words(model, second, [batch], birch).items()}
    again = update(model, pairs, experiment, range(steps, 2 * steps))
    batches = [pairs.batch(step) for step in range(steps, 2 * steps)]
    found |= {f"round_{k}": v for k, v in words(build_model(experiment), again, batches, birch).items()}
    return found


def objective(model: MaMA, batch: Batch, experiment: Experiment) -> Tensor:
    """The loss of the first step's terms."""
    terms = active_terms(experiment.loss, 0)
    values = losses(
        encode(model, batch, terms), model.logit_scale, model.local_scale, experiment.loss, terms
    )
    return weighted_sum(values, experiment.loss)


def gradient(model: MaMA, batch: Batch, experiment: Experiment) -> Named:
    """The gradient of that loss, by trained parameter."""
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    total = objective(model, batch, experiment)
    parts = torch.autograd.grad(total, list(trained.values()), allow_unused=True)
    return {n: g.detach() for n, g in zip(trained, parts, strict=True) if g is not None}


def update(model: MaMA, pairs: StudyPairs, experiment: Experiment, steps: range) -> Named:
    """The change of the weights over these steps, as it is sent; the model has taken them afterwards."""
    before = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
    Trainer(model, pairs, experiment, torch.device("cpu")).train(steps.start, len(steps))
    after = dict(model.named_parameters())
    return {n: after[n].detach() - b for n, b in before.items()}


def view(dataset: Dataset, study: Study, experiment: Experiment) -> np.ndarray:
    """A study's first film on the canvas."""
    config = experiment.image
    return on_canvas(dataset.pixels(study.images[0]), config.size, config.layout)


def prior_of(birch: Dataset, experiment: Experiment) -> Prior:
    studies = birch.studies("train")[:PRIOR]
    films = normalise([view(birch, study, experiment) for study in studies])
    return Prior(films, films.mean(0), (films > -1).float().mean(0)[0] > 0.3, list(studies))


def reconstructed(
    model: MaMA,
    change: Named,
    batch: Batch,
    prior: Prior,
    experiment: Experiment,
    iterations: int,
    *,
    signs: bool,
) -> tuple[Tensor, float]:
    """Films (2N, 1, H, W), first views and then second ones, whose gradient points against the change; its cosine."""
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


def pictures(films: Tensor, true: Tensor, others: Tensor, prior: Prior) -> dict[str, float]:
    """The best matching of films and true views, beside what needs no update."""
    count = len(true)
    corr, chosen = matched(films[:count], true, prior.mean)
    plain, _ = matched(films[:count], others, prior.mean)
    own, nearest = matched(prior.films, true, prior.mean)
    mean = prior.mean.expand_as(true)
    outline = torch.where(true > -1, mean, torch.tensor(-1.0))
    return {
        "corr": corr,
        "corr_of_others": plain,
        "corr_true_outline": matched(outline, true, prior.mean)[0],
        "corr_nearest_of_birch": own,
        "psnr": psnr(films[:count][chosen], true),
        "psnr_mean_film": psnr(mean, true),
        "psnr_random_other": psnr(others, true),
        "ssim": ssim(films[:count][chosen], true),
        "ssim_mean_film": ssim(mean, true),
        "ssim_nearest_of_birch": ssim(prior.films[nearest], true),
        "psnr_ratio": psnr(films[:count][chosen], true) / psnr(mean, true),
        "ssim_ratio": ssim(films[:count][chosen], true) / ssim(mean, true),
    }


def matched(films: Tensor, true: Tensor, mean: Tensor) -> tuple[float, np.ndarray]:
    """The mean correlation of the best one-to-one matching, and the film that each true view got."""
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
    """Structural similarity (Wang et al. 2004), Gaussian window of sigma 1.5."""

    def soft(array: np.ndarray) -> np.ndarray:
        return gaussian_filter(array, (0, 1.5, 1.5))

    a, b = films[:, 0].numpy().astype(float), true[:, 0].numpy().astype(float)
    ma, mb = soft(a), soft(b)
    va, vb, ab = soft(a * a) - ma**2, soft(b * b) - mb**2, soft(a * b) - ma * mb
    c1, c2 = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    return float(((2 * ma * mb + c1) * (2 * ab + c2) / ((ma**2 + mb**2 + c1) * (va + vb + c2))).mean())


def membership(
    model: MaMA,
    change: Named,
    inside: Sequence[Study],
    outside: Sequence[Study],
    alder: Dataset,
    reference: Batch,
    experiment: Experiment,
) -> dict[str, float]:
    """AUCs of telling `inside`, on which the update was trained, from `outside`, by two tests."""
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
        torch.cat([one.second_told, reference.second_told]),
    )


def batch_of(dataset: Dataset, studies: Sequence[Study], experiment: Experiment) -> Batch:
    """Studies as they are, without augmentation; both views are the first film."""
    films = normalise([view(dataset, study, experiment) for study in studies])
    reports = [list(for_side(s.sentences, s.images[0].laterality)) for s in studies]
    return Batch(films, films, reports, torch.ones(len(studies), dtype=torch.bool))


@torch.no_grad()
def words(model: MaMA, change: Named, batches: list[Batch], birch: Dataset) -> dict[str, float]:
    """Tokens of the batches among those that birch or they use, by the row space of the first layer's adapters."""
    text = model.text
    present = {int(t) for b in batches for t in text.tokenise(b.reports).ids.flatten()}
    frequent = Counter(
        int(t)
        for study in birch.studies("train")
        for t in text.tokenise([study.sentences]).ids.flatten()
    )
    known = sorted(present | set(frequent))
    names = [n for n in change if "layer.0." in n and "lora_A" in n]
    rows = torch.cat([change[n] for n in names])
    space = torch.linalg.svd(rows, full_matrices=False).Vh
    parts = text.backbone.embeddings
    inputs = parts.LayerNorm(
        parts.word_embeddings.weight[known][:, None]
        + parts.position_embeddings.weight[None, :32]
        + parts.token_type_embeddings.weight[0]
    )
    inputs = inputs - inputs.mean((0, 1))
    share = (inputs @ space.T).norm(dim=-1) / inputs.norm(dim=-1)
    score = dict(zip(known, share.amax(1).tolist(), strict=True))
    inside, outside = [t for t in known if t in present], [t for t in known if t not in present]
    best = sorted(known, key=lambda t: -score[t])[: len(present)]
    guessed = sorted(known, key=lambda t: -frequent[t])[: len(present)]
    return {
        "word_auc": auc([score[t] for t in inside], [score[t] for t in outside]),
        "word_auc_frequent": auc([frequent[t] for t in inside], [frequent[t] for t in outside]),
        "word_precision": len(present & set(best)) / len(present),
        "word_precision_frequent": len(present & set(guessed)) / len(present),
        "word_precision_chance": len(present) / len(known),
    }


def auc(inside: Sequence[float], outside: Sequence[float]) -> float:
    a, b = np.array(inside)[:, None], np.array(outside)[None]
    return float(((a > b) + 0.5 * (a == b)).mean()) if a.size and b.size else float("nan")


if __name__ == "__main__":
    main()
