"""Use of the bound on model steps by honest runs (client/policy/lineage.py).

    python -m benchmarks.federation.model_steps [--rounds 6] [--local-steps 5] [--studies 40]
        [--set a.b=value]

The quickstart, smaller, in one process, with several aggregation rules. For each model that a site
receives after its own first round: the change of each tensor since the model that the site last
trained from, over the bound. The output is the maximum over all tensors, sites and rounds; at 1 a
model is refused. All values must stay below a third.
"""

import argparse
import tempfile
from pathlib import Path
from typing import Any

import client.policy.lineage
from benchmarks.common import last_line
from client.policy.lineage import Lineage
from mama.config.load import load
from mama.exchange.arrays import Arrays
from mama.exchange.protocol import Task
from mama.exchange.update import Update
from sim.config import SimulatedExperiment
from sim.run import federate
from sim.sites import make_sites

CASES = {
    "sgd": [],
    "momentum": ["strategy.server_optimiser={kind: sgd, lr: 1, momentum: 0.9}"],
    "adam": ["strategy.server_optimiser={kind: adam, lr: 0.01}"],
    "third_of_sites": ["participation.sites_per_round=0.34", "participation.quorum=1"],
    "skewed": ["simulation.density_alpha=0.1"],
    "uniform": ["strategy.weights=uniform"],
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
            before, model = self._before(), Update.of(arrays).model
            rounds = max(1, abs(task.round - 1 - self._base))
            for name, array in model.items():
                moved = client.policy.lineage._length(array - before[name])
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
            files = list(made.files.values())
            metrics = federate(config.experiment(), files, Path(folder) / "run")
        share, where = max(shares)
        print(f"{case:16} {share:.3f}  {where}; {len(metrics['problems'])} problems", flush=True)
        result[case] = round(share, 3)
    last_line(result)


if __name__ == "__main__":
    main()
