"""Messages of a hostile coordinator to one site, and reconstruction of pictures and words.

Each attack takes a site file and returns the attacker's own measure.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from client.handlers import answer
from client.policy.bounds import BOUNDS
from client.site.config import load_site
from client.training.tasks import dataset_of
from mama.config import Experiment
from mama.data.pairs import StudyPairs
from mama.exchange.arrays import Arrays
from mama.exchange.codecs.coding import decode, encode
from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task
from mama.exchange.tensors import put_trained, trained_arrays
from mama.exchange.update import VARIATE, exchanged_shapes, initial_arrays
from mama.model import MaMA, build_model
from mama.towers.text import TextTower
from mama.training.objective import active_terms, losses, weighted_sum
from mama.training.objective import encode as encoded
from mama.training.schedule import learning_rate
from mama.training.trainer import Trainer

Make = Callable[..., Any]
EPS = 1e-8  # AdamW's
PATCH = "image.model.patch_embed.proj.weight"
PLACE = "image.model.pos_embed"
TOWER = [
    "image.tower=vit_tiny_patch16_224",
    "image.tokens=all",
    "image.pooling=mean",
    "image.options={patch_size: 8, embed_dim: 192, depth: 2, num_heads: 3, drop_path_rate: 0.9}",
]
PLAIN_VIEWS = [
    "augment={rotate_degrees: 0, shift: 0, min_scale: 1, max_scale: 1, "
    "brightness: 0, contrast: 0, second_view_probability: 0}",
]
ONE_PATIENT = "optimiser={lr: 1.0e-4, batch_size: 1, warmup: 0, keep_state: false}"
ONE_TERM = (
    "loss={image_text: {weight: 1}, second_text: {weight: 0}, image_image: {weight: 0}, "
    "local: {weight: 0}}"
)


OPEN: dict[str, Any] = {
    "min_patients_step": 1,
    "min_patients_update": 1,
    "allow": ["scaffold", "guidance", "augment", *(bound.key for bound in BOUNDS)],
    "max_model_step": None,
}


class RefusedError(Exception):
    """The site said no."""

    def __init__(self, code: ErrorCode):
        super().__init__(code)
        self.code = code


def wide_open(site_file: Path) -> None:
    """Let the site file allow whatever a coordinator asks."""
    defend(site_file, **OPEN)


def defend(site_file: Path, **policy: Any) -> None:
    """Set the site file's policy to the default one with these rules."""
    settings = yaml.safe_load(site_file.read_text())
    site_file.write_text(yaml.safe_dump(settings | {"policy": policy}))


def ask(site_file: Path, experiment: Experiment, model: Arrays, run: str, number: int) -> Arrays:
    """Have the site train a round, and take the update.

    Raises:
        RefusedError: with the site's code.
    """
    task = Task(
        run=run,
        round=number,
        task=f"train-{number}",
        kind="train",
        experiment=experiment.canonical_json(),
        experiment_hash=experiment.hash(),
    )
    reply, block = answer(load_site(site_file), task.encode(), encode(model))
    if isinstance(reply.status, ErrorCode):
        raise RefusedError(reply.status)
    built = build_model(experiment)
    return decode(block, exchanged_shapes(built, experiment.strategy))


def seen_by_the_site(site_file: Path, experiment: Experiment, step: int) -> tuple[Tensor, list]:
    """Return the first views and reports of a step, the truth that the attacker lacks."""
    site = load_site(site_file)
    batch = StudyPairs(dataset_of(site), experiment, site.site).batch(step)
    return batch.first, batch.reports


def pixels_exact(guess: np.ndarray, true: Tensor) -> float:
    """The share of pixels whose grey level is right; both (H, W) in [-1, 1]."""
    levels = [np.rint((np.asarray(x, float) + 1) * 127.5) for x in (guess, true)]
    return float((levels[0] == levels[1]).mean())


def picture_of(gradient: Arrays, experiment: Experiment) -> np.ndarray:
    """Return the one image (H, W) behind a gradient: filters' by that of the position vectors."""
    side = int(experiment.image.options["patch_size"])
    height, width = experiment.image.size
    vectors = gradient[PLACE][0, 1:].astype(float)
    filters = gradient[PATCH].reshape(len(gradient[PATCH]), -1).astype(float)
    patches = np.linalg.lstsq(vectors.T, filters, rcond=None)[0]
    grid = patches.reshape(height // side, width // side, side, side)
    return grid.transpose(0, 2, 1, 3).reshape(height, width)


def gradient_behind(update: Arrays, rate: float) -> Arrays:
    """The gradient of AdamW's first step, taken without weight decay."""
    moved = {n: np.abs(u / rate).clip(max=1 - 1e-7) for n, u in update.items()}
    return {n: -np.sign(u) * EPS * moved[n] / (1 - moved[n]) for n, u in update.items()}


def planted(experiment: Experiment) -> Arrays:
    """A model whose position vectors' gradients differ from patch to patch."""
    model = initial_arrays(build_model(experiment), experiment.strategy)
    random = np.random.default_rng(0)
    for name, array in model.items():
        if name.startswith("image.model.blocks.") and name.endswith("weight") and array.ndim == 2:
            model[name] = 6 * array
    model[PLACE] = random.standard_normal(model[PLACE].shape).astype(np.float32)
    return model


def one_site(rounds: int, steps: int = 1) -> list[str]:
    """Overrides of a run of one site."""
    return [f"federation={{rounds: {rounds}, local_steps: {steps}}}", "participation.quorum=1"]


def pictures_by_scaffold(site_file: Path, make: Make, rounds: int = 2) -> list[float]:
    """One patient a round, whose control variate is the gradient; pixels exact, by round."""
    strategy = "strategy={scaffold: true, guidance: 1000}"
    over = [*TOWER, *PLAIN_VIEWS, ONE_PATIENT, ONE_TERM, *one_site(1000), strategy]
    experiment = make(*over).experiment()
    model, variate, found = planted(experiment), {}, []
    for number in range(1, rounds + 1):
        update = ask(site_file, experiment, model, "scaffold", number)
        for name in (PLACE, PATCH):
            variate[name] = variate.get(name, 0) + update[VARIATE + name]
        true, _ = seen_by_the_site(site_file, experiment, number - 1)
        found.append(pixels_exact(picture_of(variate, experiment), true[0, 0]))
    return found


def pictures_by_adamw(
    site_file: Path, make: Make, rounds: int = 2, *, start: int = 1
) -> list[float]:
    """One patient a round, without SCAFFOLD: a loss so small that AdamW's step can be undone."""
    optimiser = "optimiser={lr: 1, batch_size: 1, warmup: 0, weight_decay: 0, keep_state: false}"
    over = [*TOWER, *PLAIN_VIEWS, optimiser, ONE_TERM, *one_site(1000), "strategy.guidance=1e-9"]
    experiment = make(*over).experiment()
    model, found = planted(experiment), []
    model[PATCH] = np.zeros_like(model[PATCH])
    for number in range(start, start + rounds):
        rate = learning_rate(number - 1, experiment.total_steps, 1, 0)
        gradient = gradient_behind(ask(site_file, experiment, model, "adamw", number), rate)
        true, _ = seen_by_the_site(site_file, experiment, number - 1)
        found.append(pixels_exact(picture_of(gradient, experiment), true[0, 0]))
    return found


def words_by_adapters(site_file: Path, make: Make, *, rank: int = 256) -> tuple[float, int]:
    """Two reports by the row space of the first layer's adapters: words found, and wrong ones."""
    lora = {"rank": rank, "dropout": 0, "targets": ["query", "value"]}
    optimiser = "optimiser={lr: 1.0e-4, batch_size: 2, warmup: 0, keep_state: false}"
    over = [
        optimiser,
        ONE_TERM,
        f"text.lora={json.dumps(lora)}",
        *one_site(10),
        "strategy.scaffold=true",
    ]
    experiment = make(*over).experiment()
    built = build_model(experiment)
    model = initial_arrays(built, experiment.strategy)
    random = np.random.default_rng(0)
    for name in model:
        if "lora_B" in name and not name.startswith(VARIATE):
            model[name] = (0.1 * random.standard_normal(model[name].shape)).astype(np.float32)
    update = ask(site_file, experiment, model, "words", 1)
    (name,) = (
        n for n in update if n.startswith(VARIATE) and "layer.0." in n and "value.lora_A" in n
    )
    _, reports = seen_by_the_site(site_file, experiment, 0)
    tokens = built.text.tokenise(reports)
    true = set(tokens.ids[tokens.mask].tolist())
    found = in_row_space(built.text, update[name], tokens.ids.shape[1])
    return len(found & true) / len(true), len(found - true)


@torch.no_grad()
def in_row_space(text: TextTower, gradient: np.ndarray, longest: int) -> set[int]:
    """Tokens whose first-layer input lies in the row space of a gradient (rank, width)."""
    parts = text.backbone.embeddings
    _, sizes, rows = torch.linalg.svd(torch.tensor(gradient).double(), full_matrices=False)
    space = rows[sizes > 1e-6 * sizes[0]]
    found = set()
    for place in range(longest):
        inputs = parts.LayerNorm(
            parts.word_embeddings.weight
            + parts.position_embeddings.weight[place]
            + parts.token_type_embeddings.weight[0]
        )
        # Few pass in float32, and only they are looked at in float64.
        near = ((inputs @ space.float().T).norm(dim=1) > 0.999 * inputs.norm(dim=1)).nonzero()[:, 0]
        some = inputs[near].double()
        outside = (some - some @ space.T @ space).norm(dim=1) / some.norm(dim=1)
        found |= set(near[outside < 5e-6].tolist())
    return found


def raw_gradient_by_clipping(site_file: Path, make: Make, batch: int = 8) -> float:
    """Cosine of a step's true gradient with the rest after AdamW and a tiny `clip_norm`.

    Neither SCAFFOLD nor guidance nor a planted model: this is the site's own first model, at a rate
    of 0.01.
    """
    optimiser = {"lr": 0.01, "batch_size": batch, "warmup": 0, "weight_decay": 0, "clip_norm": 1e-7}
    over = [f"optimiser={json.dumps(optimiser)}", *one_site(10)]
    experiment = make(*over).experiment()
    built = build_model(experiment)
    model = initial_arrays(built, experiment.strategy)
    gradient = gradient_behind(ask(site_file, experiment, model, "clipped", 1), 0.01)
    true = gradient_of(built, site_file, experiment)
    # Tensors that begin at 0 lose nothing to rounding.
    names = [n for n in true if not model[n].any() and np.any(true[n])]
    a, b = (np.concatenate([x[n].ravel() for n in names]) for x in (gradient, true))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def gradient_of(model: MaMA, site_file: Path, experiment: Experiment) -> Arrays:
    """The true gradient of the first step."""
    site = load_site(site_file)
    batch = StudyPairs(dataset_of(site), experiment, site.site).batch(0)
    terms = active_terms(experiment.loss, 0)
    values = losses(
        encoded(model, batch, terms), model.logit_scale, model.local_scale, experiment.loss, terms
    )
    weighted_sum(values, experiment.loss).backward()
    return {n: p.grad.numpy() for n, p in model.named_parameters() if p.grad is not None}


def one_step_by_difference(site_file: Path, make: Make) -> float:
    """Distance of the difference of two runs from their one extra step, relative to that step.

    Same seed, same model, same 20 planned steps: 5 rounds of 4 or 4 of 5. One update hides a step,
    two show it.
    """
    first, second = (
        make(f"federation={{rounds: {r}, local_steps: {s}}}", "participation.quorum=1").experiment()
        for r, s in ((5, 4), (4, 5))
    )
    model = initial_arrays(build_model(first), first.strategy)
    four = ask(site_file, first, model, "four", 1)
    five = ask(site_file, second, model, "five", 1)
    moved = {n: five[n] - four[n] for n in four}
    # The same first four steps once more, then the fifth alone.
    site, built = load_site(site_file), build_model(second)
    put_trained(built, model)
    pairs = StudyPairs(dataset_of(site), second, site.site)
    trainer = Trainer(built, pairs, second, torch.device("cpu"))
    trainer.train(0, 4)
    before = trained_arrays(built)
    trainer.train(4, 1)
    true = {n: a - before[n] for n, a in trained_arrays(built).items()}
    return norm([moved[n] - true[n] for n in true]) / norm(list(true.values()))


def trap_experiment(make: Make, batch: int, steps: int = 1, clip: float = 1e-6) -> Experiment:
    """Ordinary rates, ranks and terms; augmentation is on, by a millionth of a degree."""
    optimiser = {
        "lr": 0.01, "batch_size": batch, "warmup": 0, "weight_decay": 0, "clip_norm": clip,
        "keep_state": False,
    }  # fmt: skip
    loss = ONE_TERM.replace("image_text: {weight: 1}", "image_text: {weight: 0}")
    loss = loss.replace("image_image: {weight: 0}", "image_image: {weight: 1}")
    views = PLAIN_VIEWS[0].replace("rotate_degrees: 0", "rotate_degrees: 1.0e-6")
    tower = [*TOWER[:3], TOWER[3].replace(", drop_path_rate: 0.9", "")]
    over = [*tower, views, loss, f"optimiser={json.dumps(optimiser)}", *one_site(1000, steps)]
    return make(*over).experiment()  # type: ignore[no-any-return]


def picture_by_trap(site_file: Path, make: Make, batch: int = 8) -> tuple[float, float]:
    """One patient's picture from a batch: a planted view head passes only the extreme gradient.

    Rates, ranks and terms are within ordinary bounds, SCAFFOLD and guidance are off, augmentation
    is on (by a millionth of a degree). The threshold is found by halving, a run a question.

    Returns:
        The share of pixels exact for the best matching patient of the batch, and the distance of
        the planted model from the site's own over the length of a model's update.
    """
    experiment = trap_experiment(make, batch)
    own = initial_arrays(build_model(experiment), experiment.strategy)

    def response(threshold: float, run: str) -> tuple[Arrays, Arrays]:
        model = planted(experiment) | trap(experiment, own, threshold)
        return ask(site_file, experiment, model, run, 1), model

    low, high = -8.0, 8.0
    for question in range(12):
        middle = (low + high) / 2
        update, _ = response(middle, f"trap-{question}")
        low, high = (middle, high) if np.any(update[PATCH]) else (low, middle)
    update, model = response(low, "trap-last")
    guess = picture_of(gradient_behind(update, 0.01), experiment)
    true, _ = seen_by_the_site(site_file, experiment, 0)
    far = norm([model[n] - own[n] for n in own]) / norm(list(update.values()))
    return max(pixels_exact(guess, film[0]) for film in true), far


def trap(experiment: Experiment, own: Arrays, threshold: float) -> Arrays:
    """View head with one unit that opens above a threshold and one always open; others are shut."""
    head = {n: np.zeros_like(own[n]) for n in own if n.startswith("view_head.")}
    random = np.random.default_rng(1)
    head["view_head.0.weight"] = own["view_head.0.weight"]
    head["view_head.1.weight"][0] = 1
    head["view_head.1.bias"][:] = -1
    head["view_head.1.bias"][:2] = -threshold, 1
    rows = head["view_head.3.weight"]
    rows[:, :2] = random.standard_normal((len(rows), 2))
    head["view_head.4.weight"][:] = 1
    return head


def norm(arrays: Sequence[np.ndarray]) -> float:
    """The length of all as one vector."""
    return float(np.sqrt(sum(np.square(array, dtype=float).sum() for array in arrays)))
