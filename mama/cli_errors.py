"""Command lines end with one line and an exit code, not with a traceback, when a person can mend the cause."""

import sys

import typer

from mama.errors import MamaError


def run_cli(app: typer.Typer) -> None:
    """Run a typer app; a MamaError is printed as one line and its exit code returned."""
    try:
        app()
    except MamaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        sys.exit(130)
