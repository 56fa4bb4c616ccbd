"""Command-line entry point that turns expected errors into one line and an exit code."""

import errno
import io
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from mama.errors import ConfigError, DataError, FilesError, MamaError
from mama.system.logs import printable
from mama.system.processes import let_idle_threads_sleep

STOPPED = 130  # typer's exit code after Ctrl-C
MAX_ERROR = 4000  # characters of an error

FIXES = {
    errno.ENOSPC: "Free some space, or give another folder",
    errno.EDQUOT: "Free some space, or give another folder",
    errno.EFBIG: "Free some space, or give another folder",
    errno.EACCES: "Give a path that you may write to, or change its permissions",
    errno.EPERM: "Give a path that you may write to, or change its permissions",
    errno.EROFS: "Give a path that you may write to",
    errno.EISDIR: "Give the path of a file",
    errno.ENOTDIR: "A file exists where a folder is expected; give another path",
    errno.EEXIST: "A file exists where a folder is expected; give another path",
    errno.ENOENT: "Check the path",
}


def run_cli(app: typer.Typer) -> None:
    """Run a typer app; print a MamaError as one line and exit with its code."""
    # The local variables of an unexpected error may contain a report's text.
    app.pretty_exceptions_show_locals = False
    # Files are readable by their owner only, including those written by libraries and children.
    os.umask(0o077)
    let_idle_threads_sleep()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # File names that are not UTF-8 are printed byte for byte.
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        app()
    except MamaError as error:
        _print(error)
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk or missing permissions are not bugs, and people can fix them.
        _print(_as_files_error(error))
        sys.exit(FilesError.exit_code)
    except UnicodeEncodeError as error:
        # A site file is UTF-8; file names on this machine use its locale.
        _print(
            FilesError(
                f"cannot be written in this machine's locale ({error.encoding})",
                where=error.object,
                fix="Set LC_ALL=C.UTF-8 or PYTHONUTF8=1",
            )
        )
        sys.exit(FilesError.exit_code)
    except SystemExit as end:
        if end.code == STOPPED:
            print("stopped; run the same command again to continue", file=sys.stderr)
        raise


@contextmanager
def unfit_data_as_configuration() -> Iterator[None]:
    """Give data errors the exit code of configuration errors.

    For ingest, whose code 3 means that it finished: a script must be able to tell both apart.
    """
    try:
        yield
    except DataError as error:
        error.exit_code = ConfigError.exit_code
        raise


def _print(error: MamaError) -> None:
    # Paths, names and text from other machines may contain terminal control sequences.
    print(f"error: {printable(_as_utf8(str(error)), MAX_ERROR)}", file=sys.stderr)


def _as_utf8(text: str) -> str:
    """Return a text with undecodable bytes, decoded as the UTF-8 that they most likely are."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text  # lone surrogates from another machine, which `printable` removes


def log_errors_only() -> None:
    """Suppress warnings and progress messages of a run (option --quiet)."""
    logging.getLogger("fedmama").setLevel(logging.ERROR)


def _as_files_error(error: OSError) -> FilesError:
    return FilesError(
        (error.strerror or str(error) or type(error).__name__).lower(),
        where=str(error.filename or "system"),
        fix=FIXES.get(error.errno or 0, ""),
    )
