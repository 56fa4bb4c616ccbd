"""Agreement of a GPU with the CPU on a small model: relative errors of what a step computes.

    python -m benchmarks.gpu.agreement

The reference is the CPU in fp32. Each error is that of a vector, |x - reference| / |reference|: the
terms, the gradient and the update of one training step, with tissue tokens, with all tokens and
with gradient caching; the local loss and its gradients; the clipped sum of two private groups.
`failures` names what exceeds TOLERANCES.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from benchmarks.common import last_line
from benchmarks.gpu.workload import (
    SMALL,
    DrawnPairs,
    make_model,
    make_text_folder,
    paper_experiment,
)
from mama.losses import local_alignment_loss
from mama.model import MaMA
from mama.privacy.optimiser import GroupwiseDPOptimizer
from mama.training.hooks import GradientHook, Named
from mama.training.objective import TERMS, encode, losses, weighted_sum
from mama.training.trainer import Trainer

CPU = torch.device("cpu")
# An update is AdamW's first, the sign of each gradient, where rounding turns the smallest around.
# At random weights the terms are near chance and most of a gradient cancels: bf16 on the CPU is 0.2
# to 0.35 from fp32 there.
TOLERANCES = {
    "fp32": {"terms": 1e-5, "gradient": 1e-3, "update": 0.05, "local": 1e-5, "private": 1e-3},
    "tf32": {"terms": 1e-3, "gradient": 0.02, "update": 0.2, "local": 1e-3, "private": 0.02},
    "bf16": {"terms": 0.02, "gradient": 0.5, "update": 0.8, "local": 0.05, "private": 0.5},
}
VARIANTS = {
    "tissue": {},
    "all_tokens": {"image": {"tokens": "all"}},
    "caching": {"compute": {"chunk": 2}},
}


class Seen(GradientHook):
    """Hook that keeps a copy of the gradient."""

    def __call__(self, parameters: Named) -> None:
        """Keep the gradient."""
        self.gradient = flat([p.grad for _, p in parameters if p.grad is not None])


def main() -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory() as name:
        last_line(figures(Path(name), device))


def figures(folder: Path, device: torch.device) -> dict[str, object]:
    """Return the errors at each precision, and the names of those that are too large."""
    models = make_text_folder(folder, SMALL)
    model = make_model(paper_experiment(SMALL), models, CPU)
    with torch.no_grad():  # layer scales of 1e-5 would hide the blocks
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.5)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    expected = dict(quantities(model, weights, CPU, "fp32"))
    result: dict[str, object] = {}
    failures = []
    for precision, limits in TOLERANCES.items():
        torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.allow_tf32 = precision == "tf32"
        found = {}
        for name, value in quantities(model, weights, device, precision):
            reference = expected[name]
            error = float((value - reference).norm() / reference.norm())
            found[name] = round(error, 9)
            if not error <= limits[name.rpartition(" ")[2]]:
                failures.append(f"{precision} {name}")
        result[precision] = found
    torch.backends.cuda.matmul.allow_tf32 = False
    return result | {"failures": failures}


def quantities(
    model: MaMA, weights: dict[str, Tensor], device: torch.device, precision: str
) -> Iterator[tuple[str, Tensor]]:
    """Compute what is compared, in fp64 on the CPU."""
    low = "bf16" if precision == "bf16" else "fp32"
    for variant, sections in VARIANTS.items():
        compute = {"precision": low, **sections.get("compute", {})}
        made = paper_experiment(SMALL, **{**sections, "compute": compute})
        model.load_state_dict(weights)
        model.to(device).image.tissue_only = made.image.tokens == "tissue"
        seen, pairs = Seen(), DrawnPairs(SMALL, SMALL.studies, different=1)
        trainer = Trainer(model, pairs, made, device, [seen])
        before = flat([p for _, p in trainer.parameters])
        terms = trainer.train(0, 1).means()
        yield f"{variant} terms", torch.tensor([terms[name] for name in TERMS]).double()
        yield f"{variant} gradient", seen.gradient
        yield f"{variant} update", flat([p for _, p in trainer.parameters]) - before
    model.load_state_dict(weights)
    yield "private", private_sum(model, trainer, device)
    for name, value in zip(("value", "gradient"), local(device, low), strict=True):
        yield f"{name} local", value


def private_sum(model: MaMA, trainer: Trainer, device: torch.device) -> Tensor:
    """Return the sum of two groups' clipped gradients."""
    made, batch = trainer.experiment, DrawnPairs(SMALL, 4, different=1).made[0]
    optimiser = torch.optim.AdamW([p for _, p in trainer.parameters])
    private = GroupwiseDPOptimizer(
        optimiser, noise_multiplier=1.0, max_grad_norm=0.5, expected_groups=2
    )
    for rows in (slice(0, 2), slice(2, 4)):
        with trainer.autocast():
            encoded = encode(model, batch[rows].to(device), TERMS)
            scales = model.logit_scale, model.local_scale
            loss = weighted_sum(losses(encoded, *scales, made.loss, TERMS), made.loss)
        private.add_group(loss)
    return flat([p.summed_grad for p in private.params if p.summed_grad is not None])


def local(device: torch.device, precision: str) -> tuple[Tensor, Tensor]:
    """Return the local loss of ragged random embeddings, and its gradients."""
    generator = torch.Generator().manual_seed(0)
    patches = torch.randn(9, 150, 64, generator=generator).to(device).requires_grad_()
    sentences = torch.randn(9, 7, 64, generator=generator).to(device).requires_grad_()
    real = torch.arange(150) < torch.randint(20, 151, (9, 1), generator=generator)
    words = torch.arange(7) < torch.randint(1, 8, (9, 1), generator=generator)
    scale = torch.tensor(2.66, device=device)
    loss = local_alignment_loss(
        patches,
        sentences,
        words.to(device),
        scale,
        patch_mask=real.to(device),
        score_dtype=torch.bfloat16 if precision == "bf16" else None,
    )
    return flat([loss]), flat(list(torch.autograd.grad(loss, (patches, sentences))))


def flat(tensors: list[Tensor]) -> Tensor:
    """Return all values as one vector, fp64 on the CPU."""
    return torch.cat([tensor.detach().double().cpu().flatten() for tensor in tensors])


if __name__ == "__main__":
    main()
