"""Images, words and membership that an honest coordinator can recover from one site's update.

    python -m benchmarks.privacy.gradient_inversion [--seeds 0 1 2] [--batches 2 8 16]
        [--set a.b=value]

One hospital like those of configs/quickstart.yaml trains as configured from an honest model; the
attacker is the coordinator, who knows the experiment and the model and has its own hospital
(`birch`) as prior. It is given more than it would have: the reports of the batch for image
reconstruction, the candidates' films and reports for membership inference. It sees one of
  gradient  the raw gradient of one step (never sent by default; the upper bound)
  step      AdamW's update of one step
  round     the update of a whole round (`federation.local_steps` steps)
Images: gradient matching by cosine with a total-variation prior and Adam steps (after Geiping et
al., NeurIPS 2020) from the mean film of the attacker's hospital. AdamW hides magnitudes, so `step`
and `round` are matched by soft signs.
Words: the share of a token's first-layer input within the row space of the change of `lora_A`
(after DAGER, Petrov et al., NeurIPS 2024), beside the same test of an update of the attacker's own
hospital, and its most frequent words.
Membership: the cosine of the update with a candidate's gradient among reference studies, and the
decrease of its loss.
Each metric is reported beside its plain baseline and as the ratio to it; `corr` is over pixels
after subtracting the mean film, and its baseline is the same matching with as many patients that
were not in the batch.
"""

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from benchmarks.common import last_line
from benchmarks.privacy.inversion_attacks import (
    Named,
    batch_of,
    gradient,
    membership,
    prior_of,
    reconstructed,
    update,
    view,
    words,
)
from benchmarks.privacy.inversion_measures import pictures
from client.site.config import load_site
from mama.config import Experiment
from mama.config.load import load
from mama.data.augment import normalise
from mama.data.manifest import Dataset
from mama.data.pairs import StudyPairs
from mama.model import build_model
from sim.config import SimulatedExperiment
from sim.sites import make_sites

CONFIG = Path(__file__).parents[2] / "configs" / "quickstart.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 8, 16])
    parser.add_argument("--iterations", type=int, default=60)
    parser.add_argument(
        "--sites", type=Path, help="folder for the hospitals, reused by the next run"
    )
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
                found = films_and_members(experiment, alder, birch, options.iterations)
                found |= words_found(experiment, alder, birch)
                for name, value in found.items():
                    result.setdefault(f"{name}_{batch}", []).append(round(value, 3))
                print(f"batch {batch} seed {seed}: {time.process_time() - begin:.0f} s", flush=True)
            for name in (name for name in result if name.endswith(f"_{batch}")):
                print(f"  {name:36} {np.mean(result[name]):6.3f}  {result[name]}", flush=True)
    last_line(result | {"iterations": options.iterations})


def films_and_members(
    experiment: Experiment, alder: Dataset, birch: Dataset, iterations: int
) -> dict[str, float]:
    """Return the metrics of images and membership in the first round."""
    pairs = StudyPairs(alder, experiment, "alder")
    prior = prior_of(birch, experiment)
    seen: dict[str, Named] = {}
    fresh, batch = build_model(experiment), pairs.batch(0)
    seen["gradient"] = {n: -g for n, g in gradient(fresh, batch, experiment).items()}
    for kind, steps in (("step", 1), ("round", experiment.federation.local_steps)):
        seen[kind] = update(build_model(experiment), pairs, experiment, range(steps))
    others = [view(alder, study, experiment) for study in alder.studies("test")[: len(batch)]]
    reference = batch_of(birch, prior.studies[:7], experiment)
    found: dict[str, float] = {}
    for name, change in seen.items():
        films, found[f"{name}_cosine_reached"] = reconstructed(
            fresh, change, batch, prior, experiment, iterations, signs=name != "gradient"
        )
        for key, value in pictures(films, batch.first, normalise(others), prior.films).items():
            found[f"{name}_{key}"] = value
        # A round draws all patients of the training split, so outsiders are from the test split.
        members = pairs._patients_of(0) if name != "round" else pairs.patients[:32]
        inside = [studies[0] for studies in members]
        keys = {study.patient for study in inside}
        rest = alder.studies("train" if name != "round" else "test")
        outside = [study for study in rest if study.patient not in keys][:32]
        tested = membership(fresh, change, inside, outside, alder, reference, experiment)
        found |= {f"{name}_{key}": value for key, value in tested.items()}
    return found


def words_found(experiment: Experiment, alder: Dataset, birch: Dataset) -> dict[str, float]:
    """Return the metrics of words in the second round, when `lora_B` is no longer 0."""
    steps = experiment.federation.local_steps
    second = range(steps, 2 * steps)
    seen: dict[str, dict[str, Named]] = {}
    for dataset, name in ((alder, "alder"), (birch, "birch")):
        pairs, model = StudyPairs(dataset, experiment, name), build_model(experiment)
        update(model, pairs, experiment, range(steps))
        one = gradient(model, pairs.batch(0), experiment)
        seen[name] = {"gradient": one, "round": update(model, pairs, experiment, second)}
    pairs, found = StudyPairs(alder, experiment, "alder"), {}
    for kind, numbers in (("gradient", range(1)), ("round", second)):
        batches = [pairs.batch(step) for step in numbers]
        changes = seen["alder"][kind], seen["birch"][kind]
        tested = words(build_model(experiment), *changes, batches, birch)
        found |= {f"{kind}_{key}": value for key, value in tested.items()}
    return found


if __name__ == "__main__":
    main()
