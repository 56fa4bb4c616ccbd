"""`mama-sim`: all hospitals on one machine."""

from pathlib import Path
from typing import Annotated

import typer
import yaml

from mama.cli_errors import run_cli
from mama.configfile import load
from sim.config import DEFAULT_ENGINE, Engine, SimulatedExperiment

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)


@app.callback()
def _root() -> None:
    """All hospitals on one machine."""


@app.command()
def run(
    config: Annotated[
        Path, typer.Argument(help="Simulation file, such as configs/quickstart.yaml")
    ],
    data: Annotated[Path | None, typer.Option(help="Dataset to deal out, for real films")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default below runs/")] = None,
    seed: Annotated[int | None, typer.Option(help="Instead of the file's seed")] = None,
    engine: Annotated[
        Engine, typer.Option(help="Sites take turns, work side by side, or are real processes")
    ] = DEFAULT_ENGINE,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Override one key: a.b=value; repeatable")
    ] = None,
    quiet: Annotated[bool, typer.Option(help="Print the outcome only")] = False,
    dry_run: Annotated[bool, typer.Option(help="Print the whole experiment and stop")] = False,
) -> None:
    """Train a federation of simulated hospitals and write its report."""
    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    simulation = load(SimulatedExperiment, packaged(config), overrides)
    if dry_run:
        typer.echo(yaml.safe_dump(simulation.model_dump(mode="json"), sort_keys=False), nl=False)
        return
    folder = out or Path("runs") / f"{simulation.name}-{simulation.hash()[:8]}"
    # Imported late: `--help` and a mistake in the file need no torch.
    from sim.progress import Display
    from sim.run import simulate

    with Display(quiet=quiet) as display:
        metrics = simulate(
            simulation, folder, data=data, engine=engine, listeners=display.listeners()
        )
    display.outcome(metrics, folder)


def packaged(config: Path) -> Path:
    """The file itself or, outside a checkout, the one of this name that came with the package."""
    if config.exists() or config.parts[:1] != ("configs",):
        return config
    import configs

    shipped = Path(configs.__path__[0]) / config.name
    return shipped if shipped.exists() else config


def main() -> None:
    """Entry point."""
    run_cli(app)
