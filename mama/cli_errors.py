"""Command lines end with one line and an exit code, not with a traceback, when a person can mend the cause."""

import errno
import io
import logging
import os
import sys

import typer

from mama.cli_help import argument_help
from mama.errors import FilesError, MamaError
from mama.printable import printable

STOPPED = 130  # typer's exit code after Ctrl-C
LONGEST = 4000  # characters of an error

FIXES = {
    errno.ENOSPC: "Make room, or give another folder",
    errno.EDQUOT: "Make room, or give another folder",
    errno.EFBIG: "Make room, or give another folder",
    errno.EACCES: "Give a place where you may write, or mend its rights",
    errno.EPERM: "Give a place where you may write, or mend its rights",
    errno.EROFS: "Give a place where you may write",
    errno.EISDIR: "Give the path of a file",
    errno.ENOTDIR: "A file is where a folder should be; give another path",
    errno.EEXIST: "A file is where a folder should be; give another path",
    errno.ENOENT: "Check the path",
}


def run_cli(app: typer.Typer) -> None:
    """Run a typer app; a MamaError is printed as one line and its exit code returned."""
    # The local variables of an unexpected error may hold a report's text.
    app.pretty_exceptions_show_locals = False
    # Whatever writes a file here, also a library's or in a child: it is the owner's alone.
    os.umask(0o077)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # As our files are; a name that is not UTF-8 comes out as it came in.
            stream.reconfigure(encoding="utf-8", errors="surrogateescape")
    try:
        with argument_help():
            app()
    except MamaError as error:
        _print(error)
        sys.exit(error.exit_code)
    except OSError as error:
        # A full disk or a folder without rights is not our fault, and a person's to mend.
        _print(_as_files_error(error))
        sys.exit(FilesError.exit_code)
    except UnicodeEncodeError as error:
        # A site file is UTF-8; the names of this machine's files are whatever its locale says.
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
            print("stopped; the same command continues", file=sys.stderr)
        raise


def _print(error: MamaError) -> None:
    # Paths, names and what another machine said may hold what a terminal obeys.
    print(f"error: {printable(_as_utf8(str(error)), LONGEST)}", file=sys.stderr)


def _as_utf8(text: str) -> str:
    """A text in which the locale could not read some bytes, as the UTF-8 that they most likely are."""
    try:
        return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:
        return text  # halves of a character, from another machine; what prints them leaves them out


def silence() -> None:
    """Quiet is quiet: what a run remarks on its way is not printed."""
    logging.getLogger("fedmama").setLevel(logging.ERROR)


def _as_files_error(error: OSError) -> FilesError:
    return FilesError(
        (error.strerror or str(error) or type(error).__name__).lower(),
        where=str(error.filename or "system"),
        fix=FIXES.get(error.errno or 0, ""),
    )
