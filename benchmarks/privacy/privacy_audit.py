"""Privacy audit with canaries in one run of the code itself and of two broken copies.

Steinke, Nasr, Jagielski, "Privacy Auditing with One (1) Training Run", NeurIPS 2023, algorithm 1
and theorem 5.2. Every canary is a group with a gradient in its own direction, included in the step
with probability 1/2. From the step's result alone the auditor guesses which were included; that
many correct guesses would be unlikely (5 %) under any epsilon below the bound. A bound above the
claimed epsilon refutes the claim; one below it proves nothing.

    python -m benchmarks.privacy.privacy_audit

Last line: JSON with the claimed epsilon and each version's mean bound over the repeats.
"""

import argparse
import math

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from benchmarks.common import last_line
from mama.privacy.accounting import prv_epsilon, rdp_epsilon
from mama.privacy.optimiser import GroupwiseDPOptimizer

NOISE, RATE, CLIP, DELTA = 2.5, 1.0, 1.0, 1e-5
SIZE = 100.0  # norm of a canary's gradient before clipping
DOUBT = 0.05


class NoiseByThree(GroupwiseDPOptimizer):
    """Mutant with a third of the noise."""

    def add_noise(self) -> None:
        """Add too little noise."""
        claimed, self.noise_multiplier = self.noise_multiplier, self.noise_multiplier / 3
        super().add_noise()
        self.noise_multiplier = claimed


class ClipTimesFour(GroupwiseDPOptimizer):
    """Mutant whose gradients are four times as long as the noise is calibrated for."""

    def _factor(self, gradients: list[Tensor]) -> float:
        return 4 * super()._factor(gradients)


def released(kind: type[GroupwiseDPOptimizer], present: np.ndarray) -> np.ndarray:
    """Return the result of one step: the change of the weights, one coordinate per canary."""
    weight = nn.Parameter(torch.zeros(len(present)))
    dp = kind(
        torch.optim.SGD([weight], lr=1.0),
        noise_multiplier=NOISE,
        max_grad_norm=CLIP,
        expected_groups=len(present) / 2,
    )
    dp.zero_grad()
    for canary in np.flatnonzero(present):
        dp.add_group(SIZE * weight[canary])
    dp.step()
    return -weight.detach().numpy()


def right_guesses(kind: type[GroupwiseDPOptimizer], canaries: int, guesses: int) -> int:
    """Count correct guesses: the highest scores as included, the lowest as excluded, half each."""
    present = np.random.default_rng().random(canaries) < 0.5
    order = np.argsort(released(kind, present))
    return int(present[order[-guesses // 2 :]].sum() + (~present[order[: guesses // 2]]).sum())


def p_value(canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Return the probability of this many correct guesses under (epsilon, delta); appendix D."""
    accuracy = 1 / (1 + math.exp(-epsilon))
    below = binom.pmf(np.arange(right - 1, -1, -1), guesses, accuracy)
    alpha = max(0.0, float((np.cumsum(below) / np.arange(1, right + 1)).max(initial=0)))
    return min(1.0, float(binom.sf(right - 1, guesses, accuracy)) + 2 * canaries * delta * alpha)


def lower_bound(canaries: int, guesses: int, right: int) -> float:
    """Return the largest epsilon refuted with confidence 1 - DOUBT; 0 if none is."""
    low, high = 0.0, 20.0
    if p_value(canaries, guesses, right, low, DELTA) >= DOUBT:
        return 0.0
    for _ in range(40):
        middle = (low + high) / 2
        refuted = p_value(canaries, guesses, right, middle, DELTA) < DOUBT
        low, high = (middle, high) if refuted else (low, middle)
    return low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--canaries", type=int, default=4000)
    parser.add_argument("--guesses", type=int, default=400)
    options = parser.parse_args()
    charges = [(NOISE, RATE, 1)]
    claimed, tight = rdp_epsilon(charges, DELTA), prv_epsilon(charges, DELTA)
    print(f"claimed epsilon {claimed:.3f} (RDP), {tight:.3f} (PRV), delta {DELTA:g}, one step")
    result = {"claimed_epsilon": claimed, "claimed_epsilon_prv": tight}
    versions = {
        "correct": GroupwiseDPOptimizer,
        "noise_third": NoiseByThree,
        "clip_fourfold": ClipTimesFour,
    }
    for name, kind in versions.items():
        bounds = [
            lower_bound(
                options.canaries,
                options.guesses,
                right_guesses(kind, options.canaries, options.guesses),
            )
            for _ in range(options.repeats)
        ]
        refuted = sum(bound > claimed for bound in bounds)
        print(
            f"{name:14} bound {np.mean(bounds):.2f} ({min(bounds):.2f} to {max(bounds):.2f}), "
            f"claim refuted in {refuted} of {options.repeats}"
        )
        result |= {f"bound_{name}": float(np.mean(bounds)), f"refuted_{name}": refuted}
    last_line(result | {"repeats": options.repeats, "canaries": options.canaries})


if __name__ == "__main__":
    main()
