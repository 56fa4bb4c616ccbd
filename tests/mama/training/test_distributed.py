"""Two processes that share a batch compute the losses, gradients and weights of one.

The processes are this file, run as a script: it computes everything of `results` on its share.
"""

import json
import os
import socket
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mama.config import Experiment
from mama.data.manifest import Dataset
from mama.data.pairs import Batch, Share, StudyPairs, whole
from mama.errors import ConfigError
from mama.model import MaMA, build_model
from mama.training.distributed import buckets, gathered, join, share, sum_gradients, world
from mama.training.gradient import add_gradient
from mama.training.objective import TERMS, Encoded
from mama.training.trainer import Trainer
from tests.waiting import PATIENCE_S

CPU = torch.device("cpu")
SPOILT = "a step that one process spoils"
FATTY, DENSE, MASS = ["the breast is fatty .", "no mass ."], ["dense ."], ["a suspicious mass ."]
REPORTS = {
    "even": [FATTY, DENSE, MASS, FATTY],
    "uneven": [FATTY, [], DENSE, MASS, FATTY],
    "one rank without reports": [[], [], MASS, FATTY, DENSE],
    "no report": [[], [], []],
}
GRADIENTS = {  # name: reports, chunk, terms
    **{f"{name}, chunk {chunk}": (name, chunk, TERMS) for name in REPORTS for chunk in (None, 2)},
    "chunk 1": ("uneven", 1, TERMS),
    **{f"{term} alone": ("uneven", None, (term,)) for term in TERMS},
}
BASE = {"text": {"lora": {"dropout": 0.0}}, "loss": {"local": {"start": 0.5}}}
TRAININGS = {
    "even batches": {"optimiser": {"batch_size": 4}},
    "uneven batches": {"optimiser": {"batch_size": 5}},
    "chunks": {"optimiser": {"batch_size": 5}, "compute": {"chunk": 2}},
    "accumulation": {"optimiser": {"batch_size": 3, "accumulate": 2}},
    "local from the second step on": {"federation": {"rounds": 2, "local_steps": 1}},
    SPOILT: {"optimiser": {"batch_size": 5}},
}


class DoublePairs(StudyPairs):
    """Views in float64, so that rounding does not hide a fault; a batch's first view is blank."""

    def batch(self, step: int, share: Share = whole) -> Batch:
        made = super().batch(step, share)
        made = replace(made, first=made.first.double(), second=made.second.double())
        if share(self.batch_size).start in (None, 0):
            made.first[0] = -1
        return made


class SpoiltPairs(DoublePairs):
    """The last study of the first step has a pixel without bounds."""

    def batch(self, step: int, share: Share = whole) -> Batch:
        made = super().batch(step, share)
        if step == 0 and share(self.batch_size).stop == self.batch_size:
            made.first[-1, 0, 0, 0] = torch.inf
        return made


class Setting:
    """An experiment, base models and a dataset, as a child process gets them."""

    def __init__(self, values: dict, models: dict[str, str], dataset: str):
        self.values, self.dataset = values, Dataset(Path(dataset))
        self.models = {name: Path(path) for name, path in models.items()}

    def experiment(self, changes: dict) -> Experiment:
        return Experiment.model_validate(merged(merged(self.values, BASE), changes))

    def trainer(self, changes: dict, pairs: type[StudyPairs] = DoublePairs) -> Trainer:
        experiment = self.experiment(changes)
        model = self.model(experiment)
        return Trainer(model, pairs(self.dataset, experiment, "site"), experiment, CPU)

    def model(self, experiment: Experiment) -> MaMA:
        model = build_model(experiment, self.models).double()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():  # LoRA starts at zero, which hides gradients
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter += 0.3 * torch.randn(parameter.shape, generator=generator).double()
        return model.train()


def merged(values: dict, changes: dict) -> dict:
    both = dict(values)
    for key, change in changes.items():
        both[key] = merged(values.get(key, {}), change) if isinstance(change, dict) else change
    return both


def made_batch(reports: list[list[str]]) -> Batch:
    generator = torch.Generator().manual_seed(0)
    first, second = torch.rand(2, len(reports), 1, 32, 32, generator=generator).double() * 2 - 1
    return Batch(first, second, reports, torch.arange(len(reports)) % 2 == 0)


def gradient(setting: Setting, name: str) -> dict[str, Tensor]:
    """The losses, every parameter's gradient, and the embeddings of one batch."""
    reports, chunk, terms = GRADIENTS[name]
    experiment = setting.experiment({})
    model = setting.model(experiment)
    batch = made_batch(REPORTS[reports])
    rows = share(len(batch))
    numbers, encoded = add_gradient(
        model, batch[rows], experiment.loss, terms, chunk=chunk, autocast=nullcontext
    )
    encoded = encoded._replace(truncated=encoded.truncated.sum())  # counted a piece
    parameters = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    sum_gradients(parameter for _, parameter in parameters)
    return {
        **{f"loss {term}": value.double() for term, value in numbers.items()},
        **{f"gradient {n}": p.grad for n, p in parameters if p.grad is not None},
        **{f"encoded {n}": part for n, part in zip(Encoded._fields, encoded, strict=True)},
    }


def training(setting: Setting, name: str) -> dict[str, Tensor]:
    """Weights after two steps, the terms of each, the health of the last, and what was counted."""
    trainer = setting.trainer(TRAININGS[name], SpoiltPairs if name == SPOILT else DoublePairs)
    record = trainer.train(0, 2)
    assert (record.steps, record.skipped) == ((1, 1) if name == SPOILT else (2, 0))
    assert record.blank == 2 * trainer.experiment.optimiser.accumulate
    return {
        **{f"weight {n}": p.detach() for n, p in trainer.model.named_parameters()},
        **{f"term {n}": torch.tensor(v).double() for n, v in record.sums.items()},
        **{f"health {n}": torch.tensor(v) for n, v in record.health.figures().items()},
    }


def results(setting: Setting) -> dict[str, Tensor]:
    found = {}
    for compute, names in ((gradient, GRADIENTS), (training, TRAININGS)):
        for name in names:
            found |= {f"{name}: {key}": value for key, value in compute(setting, name).items()}
    return {key: value.contiguous().clone() for key, value in found.items()}


def exchange() -> dict[str, Tensor]:
    """Gather 2, 0 and bool rows, and its gradient; one process does not use a parameter."""
    rank, _ = world()
    rows = torch.arange(4.0).view(2, 2) + 10 * rank
    own = rows[: 2 - rank].clone().requires_grad_()
    everyone = gathered(own)
    (everyone * torch.arange(1.0, 4.0)[:, None]).sum().backward()
    rare = torch.nn.Parameter(torch.ones(2))
    never = torch.nn.Parameter(torch.ones(2))
    if rank:
        rare.grad = torch.tensor([2.0, 3.0])
    sum_gradients([rare, never])
    assert never.grad is None
    return {
        "gathered": everyone.detach(),
        "gradient": own.grad,
        "counts": gathered(torch.tensor([7, 8, 9][: rank * 3], dtype=torch.int64)),
        "none": gathered(torch.zeros(0, 3)),
        "flags": gathered(torch.tensor([rank == 1, True])),
        "rare": rare.grad,
    }


def sums_in_buckets() -> dict[str, Tensor]:
    """Numbers of collectives for few and many parameters; sums compared with those of one each."""
    rank, _ = world()
    reduce, calls = torch.distributed.all_reduce, []
    torch.distributed.all_reduce = lambda tensor: calls.append(tensor.numel()) or reduce(tensor)
    counts = []
    for number in (4, 400):
        generator = torch.Generator().manual_seed(rank)
        parameters = [torch.nn.Parameter(torch.zeros(5, 7)) for _ in range(number)]
        parameters[1] = torch.nn.Parameter(torch.zeros(3, dtype=torch.float64))
        expected: list[Tensor | None] = []
        for index, parameter in enumerate(parameters):
            gradient = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            # In some the memory is in another order, and differently in each process.
            if gradient.ndim == 2 and (index + rank) % 3 == 0:
                gradient = gradient.T.contiguous().T
            used = index % 4 != 2 and (index + rank) % 4 != 3
            parameter.grad = gradient if used else None
            expected.append(None if index % 4 == 2 else torch.zeros_like(parameter))
            if expected[-1] is not None:
                expected[-1] += gradient.contiguous() if used else 0
                reduce(expected[-1])
        calls.clear()
        sum_gradients(parameters)
        counts.append(len(calls))
        for parameter, value in zip(parameters, expected, strict=True):
            assert (parameter.grad is None) == (value is None)
            assert value is None or torch.equal(parameter.grad, value)
    torch.distributed.all_reduce = reduce
    return {"collectives": torch.tensor(counts)}


def refusals(setting: Setting) -> list[str]:
    """What is said of batches that two processes cannot divide."""
    said = []
    for changes in ({"optimiser": {"batch_size": 1}}, {"heads": {"norm": "batch"}}):
        try:
            setting.trainer(changes)
        except ConfigError as error:
            said.append(str(error))
    return said


def main(given: str, out: str) -> None:
    torch.set_num_threads(1)
    assert world() == (0, 1)
    join(CPU)
    join(CPU)  # a second time does nothing
    rank, count = world()
    assert (rank, count) == (int(os.environ["RANK"]), 2)
    setting = Setting(**json.loads(Path(given).read_text()))
    save_file(results(setting), f"{out}/results-{rank}.safetensors")
    save_file(exchange() | sums_in_buckets(), f"{out}/exchange-{rank}.safetensors")
    Path(f"{out}/refusals-{rank}.json").write_text(json.dumps(refusals(setting)))
    torch.distributed.destroy_process_group()


@pytest.fixture(scope="module")
def setting(
    experiment: Experiment, base_models: dict[str, Path], dataset: Dataset
) -> dict[str, object]:
    return {
        "values": experiment.model_dump(mode="json"),
        "models": {name: str(path) for name, path in base_models.items()},
        "dataset": str(dataset.folder),
    }


@pytest.fixture(scope="module")
def together(setting: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what two processes found."""
    out = tmp_path_factory.mktemp("processes")
    (out / "given.json").write_text(json.dumps(setting))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    package = str(Path(sys.modules["mama"].__file__).parents[1])
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, str(out / "given.json"), str(out)],
            env=os.environ | torchrun | {"RANK": str(rank), "PYTHONPATH": package},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=PATIENCE_S)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return out


@pytest.fixture(scope="module")
def alone(setting: dict[str, object]) -> dict[str, Tensor]:
    return results(Setting(**setting))


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("name", [*GRADIENTS, *TRAININGS])
def test_two_processes_equal_one(
    together: Path, alone: dict[str, Tensor], name: str, rank: int
) -> None:
    shared = load_file(together / f"results-{rank}.safetensors")
    expected = {key: value for key, value in alone.items() if key.startswith(f"{name}: ")}
    found = {key: value for key, value in shared.items() if key.startswith(f"{name}: ")}
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key].dtype == value.dtype, key
        if not value.is_floating_point():
            assert torch.equal(found[key], value), key
        elif value.numel() > 0:
            # fp32 figures of health are rounded once more.
            tolerance = 1e-10 if value.dtype == torch.float64 else 1e-5
            difference = (found[key] - value).abs().max()
            assert difference <= tolerance * value.abs().max() + 1e-14, key


def test_the_scenarios_are_not_trivial(alone: dict[str, Tensor]) -> None:
    for name in ("uneven, chunk 2", "one rank without reports, chunk None"):
        gradients = {k: v for k, v in alone.items() if k.startswith(f"{name}: gradient ")}
        assert len(gradients) > 30
        assert all(gradient.any() for gradient in gradients.values())
    first, second = (alone[f"{name}: weight logit_scale"] for name in ("even batches", "chunks"))
    assert first != second


def test_rows_are_gathered_in_the_order_of_ranks(together: Path) -> None:
    found = [load_file(together / f"exchange-{rank}.safetensors") for rank in range(2)]
    for rank in range(2):
        assert found[rank]["gathered"].tolist() == [[0, 1], [2, 3], [10, 11]]
        assert found[rank]["counts"].tolist() == [7, 8, 9]
        assert found[rank]["none"].shape == (0, 3)
        assert found[rank]["flags"].tolist() == [False, True, True, True]
        assert found[rank]["rare"].tolist() == [2, 3]
    assert found[0]["gradient"].tolist() == [[1, 1], [2, 2]]
    assert found[1]["gradient"].tolist() == [[3, 3]]


def test_the_number_of_collectives_does_not_grow_with_that_of_parameters(together: Path) -> None:
    for rank in range(2):
        found = load_file(together / f"exchange-{rank}.safetensors")
        assert found["collectives"].tolist() == [3, 3]  # what is used, then one for each type


def test_buckets_hold_every_parameter_once_and_no_more_than_their_bytes() -> None:
    sizes = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]
    parameters = [torch.nn.Parameter(torch.zeros(size)) for size in sizes]
    parameters.insert(4, torch.nn.Parameter(torch.zeros(2, dtype=torch.float64)))
    found = list(buckets(parameters, most=4 * 8))
    assert [[p.numel() for p in bucket] for bucket in found] == [
        *([3, 1, 4], [1, 5], [9], [2, 6], [5, 3], [5]),
        [2],
    ]
    assert {id(p) for bucket in found for p in bucket} == {id(p) for p in parameters}
    assert list(buckets([])) == []


def test_what_processes_cannot_divide_is_refused_in_one_line(together: Path) -> None:
    for rank in range(2):
        said = json.loads((together / f"refusals-{rank}.json").read_text())
        assert said == [
            "optimiser.batch_size: a batch of 1 cannot be divided among 2 processes. "
            "Start fewer processes",
            "heads.norm: batch statistics need the whole batch at once. "
            "Set it to layer, or use one process and no compute.chunk",
        ]


def test_a_process_of_its_own_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    join(CPU)
    assert world() == (0, 1)
    assert share(5) == slice(0, 5)
    rows = torch.rand(3)
    assert gathered(rows) is rows


if __name__ == "__main__":
    main(*sys.argv[1:])
