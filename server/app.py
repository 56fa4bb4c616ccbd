"""Flower ServerApp that runs or resumes the run in the folder named by its configuration."""

from contextlib import closing
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from mama.system.logs import write_logs
from mama.system.processes import importing
from server.cohort.signers import Signers
from server.flower.one_copy import stay_lean
from server.flower.replies import look_eagerly

with importing():
    from server.report.tensorboard import Curves
    from server.round.rehearsal import rehearse_run
    from server.round.run import FederatedRun
    from server.run.context import Listener, RunContext
    from server.run.events import Event
    from server.run.folder import RunFolder


def _ignore(event: Event) -> None:
    pass


def make_app(listener: Listener = _ignore) -> ServerApp:
    """Make a ServerApp; `listener` receives every event.

    Its run configuration has `out` (the run's folder), `expected-sites`, `sites-at-once`, and
    optionally `roster` (file of the federation's signed roster) and `rehearse` (1 to rehearse the
    run instead of running it).
    """
    write_logs()
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        look_eagerly()
        stay_lean()
        settings = context.run_config
        out = Path(str(settings["out"]))
        roster = Path(str(settings["roster"])) if settings.get("roster") else None
        if settings.get("rehearse"):
            rehearse_run(grid, RunFolder(out), Signers(roster))
            return
        with closing(Curves(out / "tensorboard")) as curves:

            def emit(event: Event) -> None:
                curves(event)
                listener(event)

            run = RunContext(
                RunFolder(out),
                emit,
                expected=int(settings["expected-sites"]),
                slots=int(settings["sites-at-once"]),
                roster=roster,
            )
            FederatedRun(grid, run).run()

    return app


app = make_app()
