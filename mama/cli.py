"""`mama`: the method on its own, for the researcher."""

import json
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from mama.cli_errors import run_cli
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


def main() -> None:
    """Entry point."""
    run_cli(app)
