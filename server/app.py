"""The Flower ServerApp: continues the run whose folder its configuration names."""

from contextlib import closing
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp

from mama.logs import write_logs
from server.curves import Curves
from server.eager import look_eagerly
from server.folder import Event, RunFolder
from server.rounds import Federation, Listener


def _ignore(event: Event) -> None:
    pass


def make_app(listener: Listener = _ignore) -> ServerApp:
    """A ServerApp that tells `listener` of every event.

    Its run configuration has `out` (the run's folder), `expected-sites` and `sites-at-once`.
    """
    write_logs()
    app = ServerApp()

    @app.main()
    def main(grid: Grid, context: Context) -> None:
        look_eagerly()
        settings = context.run_config
        out = Path(str(settings["out"]))
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
            ).run()

    return app


app = make_app()
