"""The share that honest runs use of a site's bound on each tensor of the next model (client/lineage.py).

    python benchmarks/model_steps.py [--rounds 6] [--local-steps 5] [--studies 40] [--set a.b=value]

The quickstart, smaller, in one process, under several rules of aggregation. At each model that a site is sent after
its own first round: the move of each tensor since the model that the site last trained from, over the bound. Printed
is the largest of all tensors, sites and rounds; at 1 a model is refused. All figures must stay below a third.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

from common import last_line

import client.lineage
from client.lineage import Lineage
from mama.configfile import load
from mama.exchange.arrays import Arrays
from mama.exchange.method import split
from mama.exchange.protocol import Task
from sim.config import SimulatedExperiment
from sim.run import federate
from sim.sites import make_sites

CASES = {
    "sgd": [],
    "momentum": ["federation.server_optimiser={kind: sgd, lr: 1, momentum: 0.9}"],
    "adam": ["federation.server_optimiser={kind: adam, lr: 0.01}"],
    "third_of_sites": ["federation.sites_per_round=0.34", "federation.quorum=1"],
    "skewed": ["simulation.density_alpha=0.1"],
    "uniform": ["federation.weights=uniform"],
    "fixed_rate": ["optimiser.warmup=0", "optimiser.lr=0.01"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--local-steps", type=int, default=5)
    parser.add_argument("--studies", type=int, default=40)
    parser.add_argument("--cases", nargs="+", default=list(CASES))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    small = [
        f"federation.rounds={options.rounds}",
        f"federation.local_steps={options.local_steps}",
        "federation.evaluate_every=0",
        f"simulation.train_studies={options.studies}",
        "simulation.test_studies=8",
    ]
    shares: list[tuple[float, str]] = []
    accept = Lineage.accept

    def measured(self: Lineage, task: Task, arrays: Arrays, checksum: str) -> None:
        if task.kind == "train" and self._base is not None:
            before, (model, _) = self._before(), split(arrays)
            rounds = max(1, abs(task.round - 1 - self._base))
            for name, array in model.items():
                moved = client.lineage._length(array - before[name])
                bound = self._bound(name, array.size, rounds)
                shares.append((moved / bound if bound else 0.0, f"{name} in round {task.round}"))
        accept(self, task, arrays, checksum)

    Lineage.accept = measured  # type: ignore[method-assign]
    result: dict[str, Any] = {}
    for case in options.cases:
        shares.clear()
        over = [*small, *CASES[case], *options.set]
        config = load(SimulatedExperiment, Path("configs/quickstart.yaml"), over)
        with tempfile.TemporaryDirectory() as folder:
            made = make_sites(config, Path(folder), None, lambda *_: None)
            files = [path for path, _ in made.values()]
            metrics = federate(config.experiment(), files, Path(folder) / "run")
        share, where = max(shares)
        print(f"{case:16} {share:.3f}  {where}; {len(metrics['problems'])} problems", flush=True)
        result[case] = round(share, 3)
    last_line(result)


if __name__ == "__main__":
    main()
