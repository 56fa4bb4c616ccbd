"""`mama-server`: the coordinator."""

from mama.system.cli import run_cli
from server.cli import federation, runs  # noqa: F401  (registers the commands)
from server.cli.app import app


def main() -> None:
    """Run `mama-server`."""
    run_cli(app)
