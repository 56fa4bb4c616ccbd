"""Command lines end with one line and an exit code, not with a traceback, when a person can mend the cause."""

import sys

import typer

from mama.errors import MamaError

STOPPED = 130  # typer's exit code after Ctrl-C


def run_cli(app: typer.Typer) -> None:
    """Run a typer app; a MamaError is printed as one line and its exit code returned."""
    # The local variables of an unexpected error may hold a report's text.
    app.pretty_exceptions_show_locals = False
    try:
        app()
    except MamaError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk or a folder without rights is not our fault, and a person's to mend.
        print(f"error: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        sys.exit(MamaError.exit_code)
    except SystemExit as end:
        if end.code == STOPPED:
            print("stopped; the same command continues", file=sys.stderr)
        raise
