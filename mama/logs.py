"""How our loggers write: plain lines for people, or one JSON object a line for machines.

All are below `fedmama`. What a site logs stays at the site: an unexpected error's traceback may hold what the
code was looking at.
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
LogOption = Annotated[Form | None, typer.Option("--log", help="Write the log in this form")]


class JsonFormatter(logging.Formatter):
    """A record as a JSON object: time (UTC), level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The object, on one line whatever the message holds."""
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
    """Write our log on stderr in this form, also in processes that this one starts.

    None is what the environment's FEDMAMA_LOG says; without that nothing changes.
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
