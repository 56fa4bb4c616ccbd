"""Events of rounds.jsonl as plain objects, for tests that compare them."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from server.run.events import KINDS, Event
from server.run.folder import RunFolder

# A neutral value for each type of a required key.
EMPTY: dict[str, Any] = {"str": "", "int": 0, "float": 0.0, "bool": False, "list": [], "dict": {}}


def made(record: Mapping[str, Any]) -> Event:
    """The event of a record; required keys that it lacks are empty."""
    kind = KINDS[record["event"]]
    values = {key: value for key, value in record.items() if key != "event"}
    for one in fields(kind):
        required = one.default is MISSING and one.default_factory is MISSING
        if required and one.name not in values:
            values[one.name] = EMPTY.get(str(getattr(one.type, "__name__", one.type)).split("[")[0])
    return kind(**values)


def records(folder: RunFolder) -> list[dict[str, Any]]:
    """The events of a run as they are written."""
    return [event.record() for event in folder.events()]
