"""The Flower ServerApp: continues the run whose folder its configuration names."""

from contextlib import closing
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from mama.logs import write_logs
from server.curves import Curves
from server.eager import look_eagerly
from server.folder import Event, RunFolder
from server.lean import stay_lean
from server.rehearsal import rehearse_run
from server.rounds import Federation, Listener
from server.signers import Signers


def _ignore(event: Event) -> None:
    pass


def make_app(listener: Listener = _ignore) -> ServerApp:
    """A ServerApp that tells `listener` of every event.

    Its run configuration has `out` (the run's folder), `expected-sites`, `sites-at-once`, and where they are needed
    `roster`, the file of the federation's signed roster, and `rehearse`: 1 for a rehearsal of the run in its place.
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

            def tell(event: Event) -> None:
                curves(event)
                listener(event)

            Federation(
                grid,
                RunFolder(out),
                tell,
                expected=int(settings["expected-sites"]),
                at_once=int(settings["sites-at-once"]),
                roster=roster,
            ).run()

    return app


app = make_app()
