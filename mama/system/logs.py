"""Logging as text or as one JSON object per line, and sanitising of text from other machines.

All loggers are below `fedmama`. A site's log stays at the site: tracebacks of unexpected errors may
contain data.
"""

import json
import logging
import os
import sys
from datetime import UTC, datetime
from typing import Annotated, Literal

import typer

Form = Literal["text", "json"]
VARIABLE = "FEDMAMA_LOG"  # for processes that Flower starts
MAX_TEXT = 200  # characters of a text from another machine
LogOption = Annotated[Form | None, typer.Option("--log", help="Log format")]


class JsonFormatter(logging.Formatter):
    """Formatter of records as JSON: time (UTC), level, logger, message, and traceback if any."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object on one line, whatever the message contains."""
        values = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            values["traceback"] = self.formatException(record.exc_info)
        return json.dumps(values)


def write_logs(form: Form | None = None) -> None:
    """Write the log to stderr in this form, also in child processes.

    None uses the environment variable FEDMAMA_LOG; if that is not set, nothing changes.
    """
    chosen = form or os.environ.get(VARIABLE)
    if chosen not in ("text", "json"):
        return
    os.environ[VARIABLE] = chosen
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        JsonFormatter()
        if chosen == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logger = logging.getLogger("fedmama")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel(logging.INFO)


def printable(text: str, limit: int = MAX_TEXT) -> str:
    """Return the text on one line of at most `limit` characters, without control sequences.

    Control, formatting (including right-to-left) and unassigned characters become spaces, which
    disarms escape sequences and prevents forged log lines.
    """
    # Text far beyond the limit is not processed.
    seen = "".join(c if c.isprintable() else " " for c in text[: limit + 1]).strip()
    return seen if len(text) <= limit else f"{seen[: limit - 1]}…"
