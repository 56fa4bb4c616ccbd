"""Logs as JSON: one object per line whatever the message, and only on request."""

import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mama.system.logs import JsonFormatter

ROOT = Path(__file__).parents[3]
LOG = (
    "import logging\n"
    "from mama.system.logs import write_logs\n"
    "write_logs({form})\n"
    "logging.getLogger('fedmama.x').info('done')\n"
    "logging.getLogger('other').info('not ours')\n"
)


def logged(form: str | None, **environment: str) -> str:
    ended = subprocess.run(
        [sys.executable, "-c", LOG.format(form=repr(form))],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout == ""
    return ended.stderr


def test_one_object_a_line_whatever_the_message_holds() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError:
        record = logging.LogRecord(
            "fedmama.x", logging.ERROR, "", 1, "a %s\nb", ("\x1b[2J",), sys.exc_info()
        )
    text = JsonFormatter().format(record)
    assert text.isascii()
    assert "\n" not in text
    assert "\x1b" not in text
    values = json.loads(text)
    assert values["time"].endswith("+00:00")
    assert (values["level"], values["logger"]) == ("error", "fedmama.x")
    assert values["message"] == "a \x1b[2J\nb"
    assert values["traceback"].endswith("ValueError: two\nlines")


@pytest.mark.parametrize(("form", "variable"), [("json", ""), (None, "json"), ("json", "text")])
def test_as_json(form: str | None, variable: str) -> None:
    (line,) = logged(form, FEDMAMA_LOG=variable).splitlines()
    values = json.loads(line)
    assert (values["message"], values["level"]) == ("done", "info")
    assert "traceback" not in values


def test_as_text_and_not_at_all() -> None:
    assert logged("text").endswith("INFO done\n")
    assert logged(None, FEDMAMA_LOG="") == ""
