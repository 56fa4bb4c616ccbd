"""`mama-sim`: all hospitals on one machine."""

import difflib
import json
from pathlib import Path
from typing import Annotated

import typer
import yaml

from mama.cli_errors import run_cli, silence
from mama.configfile import load, read_yaml
from mama.earlier import earlier_model
from mama.errors import ConfigError
from sim.config import DEFAULT_ENGINE, Engine, SimulatedExperiment

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__)

ConfigArgument = Annotated[
    Path, typer.Argument(help="Simulation file, such as configs/quickstart.yaml")
]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override one key: a.b=value; repeatable")
]


@app.callback()
def _root() -> None:
    """All hospitals on one machine."""


@app.command()
def run(
    config: ConfigArgument,
    data: Annotated[Path | None, typer.Option(help="Dataset to deal out, for real films")] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default below runs/")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the file's seed")] = None,
    engine: Annotated[
        Engine, typer.Option(help="Sites take turns, work side by side, or are real processes")
    ] = DEFAULT_ENGINE,
    set_: SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print the outcome only")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the whole experiment and stop")
    ] = False,
) -> None:
    """Train a federation of simulated hospitals and write its report.

    CONFIG is a simulation's file, such as configs/quickstart.yaml.
    """
    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    path = packaged(config)
    if "simulation" not in read_yaml(path, overrides):
        raise ConfigError(
            "says nothing of hospitals: it has no section `simulation`",
            where=str(path),
            fix="Train it on one dataset with `mama train`, or take configs/quickstart.yaml",
        )
    start, models = earlier_model(path, overrides)
    overrides += start
    simulation = load(SimulatedExperiment, path, overrides)
    if dry_run:
        typer.echo(yaml.safe_dump(simulation.model_dump(mode="json"), sort_keys=False), nl=False)
        return
    folder = out or Path("runs") / f"{simulation.name}-{simulation.hash()[:8]}"
    # Imported late: `--help` and a mistake in the file need no torch.
    from sim.progress import Display
    from sim.run import simulate

    if quiet:
        silence()
    with Display(quiet=quiet) as display:
        metrics = simulate(
            simulation,
            folder,
            data=data,
            engine=engine,
            listeners=display.listeners(),
            models=models,
        )
    display.outcome(metrics, folder)


@app.command()
def rehearse(
    config: ConfigArgument,
    sites: Annotated[int, typer.Option(min=1, max=100, help="How many take part")] = 3,
    set_: SetOption = None,
    json_: Annotated[bool, typer.Option("--json", help="As JSON")] = False,
) -> None:
    """Exchange random tensors of full size once with every site: bytes, time and memory. Nobody trains."""
    simulation = load(SimulatedExperiment, packaged(config), set_ or [])
    from sim.rehearsal import rehearse_here

    report = rehearse_here(simulation.experiment(), sites)
    typer.echo(json.dumps(report.figures(), indent=1) if json_ else "\n".join(report.lines()))


def packaged(config: Path) -> Path:
    """The file itself or, outside a checkout, the one of this name that came with the package.

    Raises:
        ConfigError: there is neither, but a file that may have been meant.
    """
    if config.exists():
        return config
    import configs

    shipped = {path.name: path for path in Path(configs.__path__[0]).glob("*.yaml")}
    if config.parts[:1] == ("configs",) and config.name in shipped:
        return shipped[config.name]
    names = {name.removesuffix(".yaml"): name for name in shipped}
    near = difflib.get_close_matches(config.name.removesuffix(".yaml"), names, n=1)
    if near:
        raise ConfigError(
            "no such file", where=str(config), fix=f"Did you mean configs/{names[near[0]]}?"
        )
    return config


def main() -> None:
    """Entry point."""
    run_cli(app)
