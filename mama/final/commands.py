"""Commands of `mama` that use a finished model: show, embed and export."""

from pathlib import Path
from typing import Annotated

import typer

from mama.errors import ConfigError
from mama.system.processes import importing

DEVICES = "auto, cpu, cuda or cuda:1"
MODEL = "Folder of a finished run, or its final/"

ModelArgument = Annotated[Path, typer.Argument(help=MODEL)]
DeviceOption = Annotated[str, typer.Option(help=DEVICES)]


def show(
    images: Annotated[list[Path], typer.Argument(help="DICOM mammograms or greyscale pictures")],
    model: ModelArgument,
    report: Annotated[
        Path | None, typer.Option(help="Text file of a report, for a heat map per sentence")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Picture of the heat maps (PNG)")] = None,
    device: DeviceOption = "auto",
) -> None:
    """Show what a model answers on single images, and where it looks.

    Prints the zero-shot probability of each class, with the class prompt
    that is most similar to the image. With --report and --out, it draws a
    heat map of every sentence about the image's breast.
    """
    if (report is None) != (out is None):
        raise ConfigError(
            "--report and --out belong together", where="mama show", fix="Give both or neither"
        )
    if out and out.is_dir():
        raise ConfigError("is a folder", where=f"--out {out}", fix="Give the path of a file")
    with importing():
        from mama.final.card import NO_DEVICE
        from mama.final.draw import draw
        from mama.final.mammogram import read_mammogram
        from mama.final.pretrained import PretrainedMaMA
        from mama.final.show import answers, heats, read_sentences, sentences_of
        from mama.training.device import choose_device

    loaded = PretrainedMaMA.from_pretrained(model, choose_device(device))
    sentences = read_sentences(report) if report else ()
    typer.echo(NO_DEVICE)
    rows = []
    for path in images:
        mammogram = read_mammogram(path)
        typer.echo(f"\n{path}")
        for task in loaded.tasks:
            for answer in answers(loaded, mammogram, task):
                typer.echo(f"  {task} {answer.name:4} {answer.probability:.3f}  {answer.prompt}")
        about = sentences_of(sentences, mammogram)
        if report and not about:
            typer.echo("  the report has no sentence about this breast")
        rows.append((mammogram, heats(loaded, mammogram, about) if about else []))
    if out:
        draw(rows, out)
        typer.echo(f"\nheat maps: {out}")


def embed(
    model: ModelArgument,
    dataset: Annotated[Path, typer.Argument(help="Ingested dataset")],
    out: Annotated[Path, typer.Option(help="Parquet file to write")],
    device: DeviceOption = "auto",
) -> None:
    """Write a row for each image of a dataset: its ids, view and embedding.

    The ids are those of the dataset. Embeddings can reveal what an image
    shows: treat the file as the images.
    """
    if out.is_dir():
        raise ConfigError("is a folder", where=f"--out {out}", fix="Give the path of a file")
    with importing():
        from mama.data.manifest import Dataset
        from mama.final.card import NO_DEVICE
        from mama.final.embed import embed as write_embeddings
        from mama.final.pretrained import PretrainedMaMA
        from mama.training.device import choose_device

    opened = Dataset(dataset)
    loaded = PretrainedMaMA.from_pretrained(model, choose_device(device))
    count = write_embeddings(loaded, opened, out)
    typer.echo(NO_DEVICE)
    typer.echo(f"{count} images: {out}")


def export(
    run: ModelArgument,
    to: Annotated[Path, typer.Option(help="Folder to create")],
    onnx: Annotated[
        bool, typer.Option(help="Also write the image tower as ONNX (extra `export`)")
    ] = True,
) -> None:
    """Write a model for timm, transformers and ONNX, with a model card.

    The folder needs no part of this package; README.md in it says how each
    library loads its part, and on which data the model was trained.
    """
    with importing():
        from mama.config.earlier import find_final
        from mama.final.card import NO_DEVICE
        from mama.final.export import export as write_export

    write_export(find_final(run), to, onnx=onnx)
    typer.echo(NO_DEVICE)
    typer.echo(f"export: {to}")
