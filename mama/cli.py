"""`mama`: train, evaluate and use the model without a federation."""

import os
import tempfile
from functools import partial
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mama.config import Experiment
from mama.config.earlier import earlier_model
from mama.config.load import load
from mama.errors import ConfigError
from mama.evaluation import WITHOUT_TASKS, Column, Protocol
from mama.final import commands
from mama.system.cli import log_errors_only, run_cli, unfit_data_as_configuration
from mama.system.files import write_json
from mama.system.processes import importing

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def _root() -> None:
    """Train, evaluate and use the model without a federation."""


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="Folder of a finished run, or its final/")],
    dataset: Annotated[Path, typer.Argument(help="Ingested dataset, or raw folder")],
    adapter: Annotated[
        str | None,
        typer.Option(help="Layout of a raw DATASET folder, such as dicom_folder"),
    ] = None,
    protocol: Annotated[
        Protocol, typer.Option(help="What is computed; see docs/evaluation.md")
    ] = Protocol.ZERO_SHOT,
    against: Annotated[
        Path | None, typer.Option(help="Model to compare with on the same studies")
    ] = None,
    by: Annotated[
        list[Column] | None, typer.Option(help="Also score each group of a column; repeatable")
    ] = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="Also write the metrics to this file")
    ] = None,
    device: Annotated[str, typer.Option(help=commands.DEVICES)] = "auto",
) -> None:
    """Score a model on a dataset. The model is not changed.

    DATASET is an ingested dataset, whose test studies are scored (or its
    training studies if it has no others), or a raw folder with --adapter,
    whose studies are all scored. A linear probe is fitted to the labels of
    the training studies; the other protocols fit nothing. Intervals are of
    95 %, by a bootstrap over patients.
    """
    _refuse_folder(json_)
    if protocol in WITHOUT_TASKS and (against or by):
        raise ConfigError(
            f"{protocol} has no tasks to compare or to group",
            where=f"--protocol {protocol}",
            fix="Leave out --against and --by",
        )
    with importing():
        from mama.config.earlier import find_final
        from mama.evaluation.evaluate import by_protocol, ingested
        from mama.evaluation.tables import print_pointing, print_retrieval, print_scorecard
        from mama.final.saved import read_experiment
        from mama.system.console import stage_bars
        from mama.training.device import choose_device

    chosen, final = choose_device(device), find_final(model)
    other = find_final(against) if against else None
    models = [final, other] if other else [final]
    for path in models:
        read_experiment(path)
    with tempfile.TemporaryDirectory(prefix="mama-") as cache:
        with stage_bars() as progress:
            studies = ingested(dataset, adapter, models, Path(cache), progress)
        figures = by_protocol(protocol, final, studies, chosen, against=other, by=by or ())
    if json_:
        write_json(json_, figures)
    split, count = figures["scored"]["split"], figures["scored"]["studies"]
    title = f"{count} {'test' if split == 'test' else 'TRAINING'} studies"
    typer.echo(title)
    console, found = Console(highlight=False), figures[protocol.replace("-", "_")]
    if protocol == Protocol.RETRIEVAL:
        print_retrieval(console, found)
    elif protocol == Protocol.POINTING:
        print_pointing(console, found)
    else:
        for task, card in found.items():
            print_scorecard(console, f"{protocol} {task}", card)
    if split == "train":
        typer.echo(
            "The dataset has no test studies. If the model was trained on these studies,\n"
            "the metrics say nothing about new patients."
        )
    if json_:
        typer.echo(f"metrics: {json_}")


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="Folder of images and reports or labels")],
    dataset: Annotated[Path, typer.Argument(help="Folder for manifest and image cache")],
    adapter: Annotated[
        str, typer.Option(help="Layout of SOURCE: dicom_folder, or a public data set")
    ],
    long_side: Annotated[
        int, typer.Option(min=16, max=4096, help="Longer side of the experiment's image size")
    ] = 518,
    test_fraction: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Share of patients kept for evaluation")
    ] = 0.2,
    secret: Annotated[
        Path | None, typer.Option(help="Key of the pseudonyms; default: created in DATASET")
    ] = None,
) -> None:
    """Read images and reports into a dataset for `mama train`.

    The command can be repeated safely. Hospitals use `mama-site ingest`.
    """
    from mama.data.ingest.run import ingest as read_source
    from mama.system.console import stage_bars

    with unfit_data_as_configuration(), stage_bars() as progress:
        report = read_source(
            source,
            dataset,
            adapter=adapter,
            secret=secret or dataset / "secret.key",
            long_side=long_side,
            test_fraction=test_fraction,
            workers=len(os.sched_getaffinity(0)),
            progress=progress,
        )
    for line in report.lines(dataset):
        typer.echo(line)
    raise typer.Exit(report.exit_code)


@app.command()
def audit(dataset: Annotated[Path, typer.Argument(help="Ingested dataset")]) -> None:
    """Check that nobody is in two splits, and no picture or report under two patients.

    Exits with 1 and a line for each fault; ids are those of the dataset.
    """
    from mama.data.adapters.notes import NOTES
    from mama.data.ingest.audit import audit_dataset
    from mama.data.ingest.contents import contents_of
    from mama.data.manifest import Dataset

    opened = Dataset(dataset)
    found = audit_dataset(opened)
    for code, ids in found:
        typer.echo(f"{code}: {NOTES[code][0]}: {', '.join(ids)}")
    if found:
        raise typer.Exit(1)
    typer.echo("no fault: patients, pictures and reports are apart")
    if marked := contents_of(opened.manifest.studies, ()).marked():
        typer.echo(marked)
    if not opened.manifest.share_weights:
        typer.echo("licence: weights trained on this data may not be shared")


@app.command()
def train(
    experiment: Annotated[Path, typer.Argument(help="Experiment file (YAML)")],
    data: Annotated[Path, typer.Option(help="Ingested dataset; see `mama ingest`")],
    out: Annotated[Path, typer.Option(help="Folder of the run; resumes an interrupted run")],
    model: Annotated[
        list[str] | None, typer.Option(help="Location of a base model, NAME=PATH; repeatable")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: a.b=value; repeatable")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Override the file's seed")] = None,
    device: Annotated[str, typer.Option(help=commands.DEVICES)] = "auto",
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints")] = 50,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the outcome")] = False,
) -> None:
    """Train on one dataset without a federation. Works under torchrun.

    EXPERIMENT is a file such as configs/mama_vitb.yaml. The number of steps
    is federation.rounds x federation.local_steps.
    """
    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    places = _places(model or [])
    start, earlier = earlier_model(experiment, overrides)
    overrides, places = [*overrides, *start], places | earlier
    # `simulation` describes a simulation's hospitals and does not affect training.
    checked = load(Experiment, experiment, overrides, without=("simulation",))
    # Imported late: `--help` and errors in the file do not need torch.
    with importing():
        from mama.data.manifest import Dataset
        from mama.system.console import TrainingLines, print_figures
        from mama.training.device import choose_device
        from mama.training.standalone import Callbacks, train

    lines = TrainingLines(checked.total_steps, partial(typer.echo, err=True))
    if quiet:
        log_errors_only()
    metrics = train(
        checked,
        Dataset(data),
        out,
        every=every,
        models=places,
        device=choose_device(device),
        callbacks=Callbacks() if quiet else Callbacks(lines.begin, lines.step, lines.emit),
    )
    if not metrics:  # a process other than the first
        return
    evaluation = metrics["evaluation"]
    if evaluation["zero_shot"]:
        title = f"{metrics['steps']} steps, {evaluation['scored']['studies']} test studies"
        print_figures(Console(highlight=False), title, {"zero_shot": evaluation["zero_shot"]})
    else:
        typer.echo(f"no metrics: {evaluation['reason']}")
    typer.echo(f"metrics: {out / 'metrics.json'}")
    typer.echo(f"model:   {out / 'final'}")


for command in (commands.show, commands.embed, commands.export):
    app.command()(command)


def _refuse_folder(path: Path | None) -> None:
    """Check --json before the evaluation instead of after it."""
    if path and path.is_dir():
        raise ConfigError("is a folder", where=f"--json {path}", fix="Give the path of a file")


def _places(given: list[str]) -> dict[str, Path]:
    places = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals:
            raise ConfigError("is not of the form NAME=PATH", where=f"--model {text}")
        places[name] = Path(path)
    return places


def main() -> None:
    """Run the command line."""
    run_cli(app)


if __name__ == "__main__":
    main()
