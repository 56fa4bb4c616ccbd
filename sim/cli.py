"""`mama-sim`: simulate a federation of hospitals on one machine."""

import difflib
import json
from pathlib import Path
from typing import Annotated

import typer
import yaml

from mama.config.earlier import earlier_model
from mama.config.load import load, read_yaml
from mama.errors import ConfigError
from mama.system.cli import log_errors_only, run_cli
from mama.system.processes import importing
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
    """Simulate a federation of hospitals on one machine."""


@app.command()
def run(
    config: ConfigArgument,
    data: Annotated[
        Path | None, typer.Option(help="Ingested dataset or raw folder, dealt to the hospitals")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the run; default: in runs/")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Override the file's seed")] = None,
    engine: Annotated[
        Engine, typer.Option(help="Run sites in turn, in parallel, or as real services")
    ] = DEFAULT_ENGINE,
    set_: SetOption = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print only the outcome")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the complete experiment and exit")
    ] = False,
) -> None:
    """Train a federation of simulated hospitals and write its report.

    CONFIG is a simulation file, such as configs/quickstart.yaml.
    """
    overrides = [*(set_ or []), *([f"seed={seed}"] if seed is not None else [])]
    path = packaged(config)
    if "simulation" not in read_yaml(path, overrides):
        raise ConfigError(
            "has no section `simulation`, which describes the hospitals",
            where=str(path),
            fix="Train it on one dataset with `mama train`, or use configs/quickstart.yaml",
        )
    start, models = earlier_model(path, overrides)
    overrides += start
    simulation = load(SimulatedExperiment, path, overrides)
    if dry_run:
        typer.echo(yaml.safe_dump(simulation.model_dump(mode="json"), sort_keys=False), nl=False)
        return
    folder = out or Path("runs") / f"{simulation.name}-{simulation.hash()[:8]}"
    # Imported late: `--help` and errors in the file do not need torch.
    with importing():
        from sim.progress import Display
        from sim.run import simulate
    if quiet:
        log_errors_only()
    with Display(quiet=quiet) as display:
        metrics = simulate(
            simulation,
            folder,
            data=data,
            engine=engine,
            callbacks=display.callbacks(),
            models=models,
        )
    display.outcome(metrics, folder)


@app.command()
def rehearse(
    config: ConfigArgument,
    sites: Annotated[int, typer.Option(min=1, max=100, help="Number of sites")] = 3,
    set_: SetOption = None,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON")] = False,
) -> None:
    """Measure one exchange of random full-size tensors with every site, without training.

    The report lists bytes, time and memory.
    """
    simulation = load(SimulatedExperiment, packaged(config), set_ or [])
    from sim.rehearsal import rehearse_here

    report = rehearse_here(simulation.experiment(), sites)
    typer.echo(json.dumps(report.figures(), indent=1) if json_ else "\n".join(report.lines()))


def packaged(config: Path) -> Path:
    """Return the file itself or, outside a checkout, the packaged one of the same name.

    Raises:
        ConfigError: neither exists, but a file with a similar name does.
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
    """Run the command line."""
    run_cli(app)
