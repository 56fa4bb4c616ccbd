"""Private step on a GPU compared with a plain one on as many study pairs.

    python -m benchmarks.gpu.private [--quick]

Four groups, whose gradients are clipped one after the other and summed, noise and AdamW; the towers
and images of step.py.
"""

from itertools import count
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu.measure import measured
from benchmarks.gpu.workload import (
    DrawnPairs,
    Size,
    make_model,
    make_text_folder,
    paper_experiment,
    run,
)
from mama.privacy.optimiser import GroupwiseDPOptimizer
from mama.training.objective import TERMS, encode, losses, weighted_sum
from mama.training.trainer import Trainer

GROUPS = 4


def figures(size: Size, folder: Path, device: torch.device) -> dict[str, Any]:
    """Return the figures of both steps, and the private one's time relative to the plain one's."""
    made, pairs = paper_experiment(size), DrawnPairs(size, size.studies, different=1)
    model = make_model(made, make_text_folder(folder, size), device)
    trainer, numbers = Trainer(model, pairs, made, device), count()  # type: ignore[arg-type]
    plain = measured(lambda: trainer.train(next(numbers), 1), device, 3)
    private = GroupwiseDPOptimizer(
        trainer.optimiser, noise_multiplier=1.0, max_grad_norm=1.0, expected_groups=GROUPS
    )
    batch, each = pairs.made[0], size.studies // GROUPS

    def step() -> None:
        private.zero_grad(set_to_none=True)
        for group in range(GROUPS):
            part = batch[group * each : (group + 1) * each].to(device)
            with trainer.autocast():
                encoded = encode(model, part, TERMS)
                scales = model.logit_scale, model.local_scale
                loss = weighted_sum(losses(encoded, *scales, made.loss, TERMS), made.loss)
            private.add_group(loss)
        private.step()

    found = measured(step, device, 3)
    ratio = {}
    if "seconds" in plain and "seconds" in found:
        ratio = {"private_over_plain": round(found["seconds"] / plain["seconds"], 2)}
    trained = sum(parameter.numel() for _, parameter in trainer.parameters)
    return {"plain": plain, "private": found, "values": trained} | ratio


if __name__ == "__main__":
    run(figures, __doc__)
