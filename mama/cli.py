"""`mama`: the method on its own, for the researcher."""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mama.cli_errors import run_cli, silence
from mama.config import Experiment
from mama.configfile import load
from mama.earlier import earlier_model
from mama.errors import ConfigError
from mama.files import write_json

DEVICES = "auto, cpu, cuda or cuda:1"

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def _root() -> None:
    """The method on its own."""


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument()],
    dataset: Annotated[Path, typer.Argument()],
    adapter: Annotated[
        str | None,
        typer.Option(help="DATASET is a raw folder of this layout: dicom_folder or mias"),
    ] = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures here")
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICES)] = "auto",
) -> None:
    """Score a model's zero-shot answers. Nothing is fitted; labels only score.

    MODEL is a finished run's folder, or its final/.

    DATASET is an ingested dataset, whose test studies are scored (its
    training studies where it has no other), or a raw folder with --adapter,
    whose studies are all scored.
    """
    _refuse_folder(json_)
    from mama.console import bar, print_figures
    from mama.devices import choose_device
    from mama.earlier import find_final
    from mama.evaluation.whole import evaluate_whole, ingested
    from mama.export import read_experiment

    chosen, final = choose_device(device), find_final(model)
    read_experiment(final)
    with tempfile.TemporaryDirectory(prefix="mama-") as cache:
        with bar("reading images") as progress:
            studies = ingested(dataset, adapter, final, Path(cache), progress)
        figures = evaluate_whole(final, studies, chosen)
    if json_:
        write_json(json_, figures)
    split, count = figures["scored"]["split"], figures["scored"]["studies"]
    title = f"{count} {'test' if split == 'test' else 'TRAINING'} studies"
    print_figures(Console(highlight=False), title, {"zero_shot": figures["zero_shot"]})
    if split == "train":
        typer.echo(
            "The dataset has no test studies. A model that was trained on it knows these: then\n"
            "the figures say nothing of new patients."
        )
    if json_:
        typer.echo(f"figures: {json_}")


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument()],
    dataset: Annotated[Path, typer.Argument()],
    adapter: Annotated[str, typer.Option(help="Layout of SOURCE: dicom_folder or mias")],
    long_side: Annotated[
        int, typer.Option(min=16, max=4096, help="Larger side of the experiment's image size")
    ] = 518,
    test_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of patients kept for evaluation")
    ] = 0.2,
    secret: Annotated[
        Path | None, typer.Option(help="Key of the pseudonyms; made in DATASET on first use")
    ] = None,
) -> None:
    """Read images and reports into a dataset for `mama train`; safe to repeat.

    SOURCE is a folder of images and reports or labels.

    DATASET is the folder for manifest and image cache.

    A hospital uses `mama-site ingest`.
    """
    from mama.console import bar
    from mama.data import ingest as reader
    from mama.data.manifest import Dataset

    with bar("reading images") as progress:
        report = reader.ingest(
            source,
            dataset,
            adapter=adapter,
            secret=secret or dataset / "secret.key",
            long_side=long_side,
            test_fraction=test_fraction,
            workers=len(os.sched_getaffinity(0)),
            progress=progress,
        )
    typer.echo(f"{report.studies} studies, {report.images} images, {report.cached} from the cache")
    for remark in report.remarks():
        typer.echo(remark)
    counts = {split: len(Dataset(dataset).studies(split)) for split in ("train", "test")}
    typer.echo(f"{counts['train']} studies to train on, {counts['test']} to test")


@app.command()
def train(
    experiment: Annotated[Path, typer.Argument()],
    data: Annotated[Path, typer.Option(help="Ingested dataset; see `mama ingest`")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command continues it")],
    model: Annotated[
        list[str] | None, typer.Option(help="A base model's place, NAME=PATH; repeatable")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: a.b=value; repeatable")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the file's seed")] = None,
    device: Annotated[str, typer.Option(help=DEVICES)] = "auto",
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints")] = 50,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the outcome only")] = False,
) -> None:
    """Train on one dataset without a federation. Works under torchrun.

    EXPERIMENT is a file such as configs/mama_vitb.yaml. It says how many
    steps are taken: federation.rounds x federation.local_steps.
    """
    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    places = _places(model or [])
    start, earlier = earlier_model(experiment, overrides)
    overrides, places = [*overrides, *start], places | earlier
    # `simulation` says where a simulation's hospitals come from, and nothing of training.
    checked = load(Experiment, experiment, overrides, without=("simulation",))
    # Imported late: `--help` and a mistake in the file need no torch.
    from mama.console import TrainingLines, print_figures
    from mama.data.manifest import Dataset
    from mama.devices import choose_device
    from mama.run import Listeners, train

    lines = TrainingLines(checked.total_steps, partial(typer.echo, err=True))
    if quiet:
        silence()
    metrics = train(
        checked,
        Dataset(data),
        out,
        every=every,
        models=places,
        device=choose_device(device),
        listeners=Listeners() if quiet else Listeners(lines.begin, lines.step, lines.tell),
    )
    if not metrics:  # one of several processes, and not the first
        return
    evaluation = metrics["evaluation"]
    if evaluation["zero_shot"]:
        title = f"{metrics['steps']} steps, {evaluation['scored']['studies']} test studies"
        print_figures(Console(highlight=False), title, {"zero_shot": evaluation["zero_shot"]})
    else:
        typer.echo(f"no figures: {evaluation['reason']}")
    typer.echo(f"figures: {out / 'metrics.json'}")
    typer.echo(f"model:   {out / 'final'}")


def _refuse_folder(path: Path | None) -> None:
    """Before the work is done, not after it."""
    if path and path.is_dir():
        raise ConfigError("is a folder", where=f"--json {path}", fix="Name a file")


def _places(given: list[str]) -> dict[str, Path]:
    places = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals:
            raise ConfigError("is not of the form NAME=PATH", where=f"--model {text}")
        places[name] = Path(path)
    return places


def main() -> None:
    """Entry point."""
    run_cli(app)


if __name__ == "__main__":
    main()
