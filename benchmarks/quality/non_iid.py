"""Comparison of federated methods on heterogeneous hospitals.

    python -m benchmarks.quality.non_iid [--seeds 31 32 33] [--cases ...] [--methods ...]
        [--work DIR] [--set a.b=value]

Hospitals of configs/quickstart.yaml whose densities are drawn from Dirichlet(alpha) (0.1: nearly
one density per site; `even`: 1e6, all alike), all with one vendor's equipment; and `vendors`: alike
in density, each with its own vendor. Cancer prevalence and reporting style differ in all cases.
Every method trains the same steps from the same weights; the settings below were not tuned. Tested
on 210 new patients of the same vendors with balanced labels; AUCs are means of those within each
site, where FedBN's sites use their own norms. The interval of a difference from FedAvg resamples
patients over all seeds. Finished runs in --work are reused.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import last_line
from benchmarks.quality.synthetic_seeds import Found, datasets, difference, trained, within_vendor
from client.site.config import load_site
from client.training.strategy import LocalMethod
from mama.config.load import load
from mama.evaluation.evaluate import answers
from mama.exchange.metrics import LABELS
from mama.exchange.tensors import local_tensors
from mama.final.saved import load_final, save_final
from server.run.folder import RunFolder
from sim.config import SimulatedExperiment

CASES = {
    "alpha 0.1": ["simulation.density_alpha=0.1", "simulation.vendor_shift=false"],
    "alpha 1": ["simulation.density_alpha=1", "simulation.vendor_shift=false"],
    "even": ["simulation.density_alpha=1e6", "simulation.vendor_shift=false"],
    "vendors": ["simulation.density_alpha=1e6", "simulation.vendor_shift=true"],
}
NORMS = ["*norm*", "view_head.[14].*", "patch_head.1.*", "sentence_head.1.*"]
METHODS = {
    "FedAvg": [],
    "FedProx": ["strategy.prox=0.1"],
    "FedAdam": ["strategy.server_optimiser={kind: adam, lr: 0.003}"],
    "SCAFFOLD": ["strategy.scaffold=true"],
    "guidance": ["strategy.guidance=1"],
    "FedBN": [f"strategy.local={json.dumps(NORMS)}"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[31, 32, 33])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--work", type=Path, default=Path("runs/non-iid"))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    summary: dict[str, Any] = {}
    for case in options.cases:
        results = [
            one_seed(seed, case, options.methods, options.work, options.set)
            for seed in options.seeds
        ]
        summary |= table(case, results)
    last_line(summary)


def one_seed(seed: int, case: str, methods: list[str], work: Path, overrides: list[str]) -> Found:
    """Evaluate all methods on the same hospitals and the same new patients."""
    home = work / case.replace(" ", "-") / f"seed-{seed}"
    _, train, test = datasets(seed, home, [*overrides, *CASES[case]])
    files = [dataset.folder.parent / "site.yaml" for dataset in train]
    found: Found = {label: {} for label in LABELS}
    for method in methods:
        changes = [*overrides, *CASES[case], *METHODS[method], f"seed={seed}"]
        config = load(SimulatedExperiment, Path("configs/quickstart.yaml"), changes)
        trained(config.experiment(), files, home / method)
        for file, dataset in zip(files, test, strict=True):
            for label, predictions in answers(of_site(home / method, file), dataset).items():
                found[label].setdefault(method, []).append(predictions)
        areas = {label: round(within_vendor(found[label][method]), 3) for label in LABELS}
        print(f"{case}, seed {seed}, {method}: {areas}", flush=True)
    return found


def of_site(out: Path, file: Path) -> Path:
    """Return the run's final model with this site's local tensors."""
    model, experiment = load_final(out / "final")
    config, rounds = experiment.strategy, experiment.federation.rounds
    own = LocalMethod(load_site(file), config, RunFolder(out).latest().run, rounds)
    own.put_own(model, local_tensors(model, config.local), after=True)
    save_final(out / f"final-{file.parent.name}", model, experiment)
    return out / f"final-{file.parent.name}"


def table(case: str, results: list[Found]) -> dict[str, Any]:
    """Print AUCs by seed and their mean; return them with the differences from FedAvg."""
    summary: dict[str, Any] = {}
    for label in LABELS:
        print(f"\n{case}, {label}: AUC by seed, mean, minus FedAvg")
        for method in results[0][label]:
            areas = [within_vendor(found[label][method]) for found in results]
            key = f"{case}.{label}.{method}"
            summary[key] = areas
            line = "  ".join(f"{area:.3f}" for area in areas) + f"  {np.mean(areas):.3f}"
            if method != "FedAvg" and "FedAvg" in results[0][label]:
                low, high, middle = difference(results, label, ["FedAvg"], of=method)
                summary[f"{key} - FedAvg"] = [middle, low, high]
                line += f"  {middle:+.3f} [{low:+.3f}, {high:+.3f}]"
            print(f"  {method:<10}{line}", flush=True)
    return summary


if __name__ == "__main__":
    main()
