"""`mama`: the method on its own, for the researcher."""

import json
import os
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from mama.cli_errors import run_cli
from mama.config import Experiment
from mama.configfile import build, read_yaml
from mama.errors import ConfigError
from mama.files import write_json

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def _root() -> None:
    """The method on its own."""


@app.command()
def evaluate(
    model: Annotated[Path, typer.Argument(help="A run's final/ folder")],
    dataset: Annotated[Path, typer.Argument(help="Ingested dataset, or raw folder with --adapter")],
    adapter: Annotated[
        str | None, typer.Option(help="Ingest DATASET first: dicom_folder or mias")
    ] = None,
    json_: Annotated[
        Path | None, typer.Option("--json", help="Also write the figures here")
    ] = None,
) -> None:
    """Zero-shot figures of a model on all studies of a dataset. Nothing is fitted; labels only score."""
    from mama.evaluation.whole import evaluate_whole, ingested

    with tempfile.TemporaryDirectory(prefix="mama-") as cache:
        figures = evaluate_whole(model, ingested(dataset, adapter, model, Path(cache)))
    if json_:
        write_json(json_, figures)
    typer.echo(json.dumps(figures, indent=2))


@app.command()
def ingest(
    source: Annotated[Path, typer.Argument(help="Folder of images and reports or labels")],
    dataset: Annotated[Path, typer.Argument(help="Where manifest and image cache go")],
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
    """Read images and reports into a dataset for `mama train`; safe to repeat. A hospital uses `mama-site ingest`."""
    from mama.data import ingest as reader
    from mama.data.secret import read_secret

    report = reader.ingest(
        source,
        dataset,
        adapter=adapter,
        secret=read_secret(secret or dataset / "secret.key"),
        long_side=long_side,
        test_fraction=test_fraction,
        workers=len(os.sched_getaffinity(0)),
    )
    typer.echo(f"{report.studies} studies, {report.images} images, {report.cached} from the cache")
    for remark in report.remarks():
        typer.echo(remark)


@app.command()
def train(
    experiment: Annotated[
        Path, typer.Argument(help="Experiment file, such as configs/mama_vitb.yaml")
    ],
    data: Annotated[Path, typer.Option(help="Ingested dataset; see `mama ingest`")],
    out: Annotated[Path, typer.Option(help="Folder of the run; the same command continues it")],
    model: Annotated[
        list[str] | None, typer.Option(help="A base model's place, NAME=PATH; repeatable")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: a.b=value; repeatable")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the file's seed")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:1")] = "auto",
    every: Annotated[int, typer.Option(min=1, help="Steps between checkpoints")] = 50,
    quiet: Annotated[bool, typer.Option(help="Print the outcome only")] = False,
) -> None:
    """Train on one dataset without a federation; rounds x local_steps are its steps. Works under torchrun."""
    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    values = read_yaml(experiment, overrides)
    values.pop(
        "simulation", None
    )  # says where a simulation's hospitals come from, and nothing of training
    checked = build(Experiment, values, str(experiment))
    # Imported late: `--help` and a mistake in the file need no torch.
    from mama.data.manifest import Dataset
    from mama.run import choose_device, train

    def tell(step: int, figures: dict[str, float]) -> None:
        if not quiet:
            shown = "  ".join(f"{name} {value:.3f}" for name, value in figures.items())
            typer.echo(f"step {step}/{checked.total_steps}  {shown}", err=True)

    metrics = train(
        checked,
        Dataset(data),
        out,
        every=every,
        models=_places(model or []),
        device=choose_device(device),
        progress=tell,
    )
    if metrics:
        typer.echo(json.dumps(metrics, indent=2))
        typer.echo(f"model: {out / 'final'}")


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
