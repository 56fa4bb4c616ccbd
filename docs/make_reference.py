"""docs/reference.md: every key of every configuration file, made from the models that read them.

python -m docs.make_reference > docs/reference.md
"""

import json
import types
import typing
from collections.abc import Iterator
from datetime import date
from enum import Enum
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from client.site.config import SiteFile
from mama.config import Experiment
from server.federation.home import FederationFile
from sim.config import DealtDataset, SyntheticHospitals

HEAD = """# All keys of all files

Made from the models that read the files (`python -m docs.make_reference`); a test compares it \
with them. **needed**:
the key has no default. Ranges are inclusive unless they say "above" or "below". An unknown key is \
refused by name.
"""
FILES: tuple[tuple[str, str, type[BaseModel]], ...] = (
    (
        "Experiment",
        "The coordinator's, equal for all sites; `mama train`, `mama-server run`.",
        Experiment,
    ),
    (
        "`simulation`, source synthetic",
        "Beside an experiment, for `mama-sim run`.",
        SyntheticHospitals,
    ),
    (
        "`simulation`, other sources",
        "Beside an experiment, for `mama-sim run --data`.",
        DealtDataset,
    ),
    ("Federation file", "`federation.yaml` at the coordinator.", FederationFile),
    ("Site file", "`site.yaml` at a hospital, which it never leaves.", SiteFile),
)
NAMES = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    Path: "path",
    date: "day",
}
BOUNDS = (
    ("ge", "{} or more"),
    ("gt", "above {}"),
    ("le", "{} at most"),
    ("lt", "below {}"),
)


def reference() -> str:
    """Return the page."""
    parts = [HEAD]
    for title, what, model in FILES:
        parts += [f"\n## {title}\n\n{what}\n", "| key | type | default | |", "|---|---|---|---|"]
        parts += [f"| {' | '.join(row)} |" for row in _rows(model)]
    return "\n".join(parts) + "\n"


def _rows(
    model: type[BaseModel], prefix: str = "", section: BaseModel | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """Key, type, default and description; a section's own keys follow it."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        sections = _sections(field.annotation)
        yield (
            f"`{key}`",
            _type(field),
            _default(field, getattr(section, name, None)),
            _text(field, key),
        )
        inner = f"{key}[]." if typing.get_origin(field.annotation) is list else f"{key}."
        default = None if field.is_required() else field.get_default()
        for part in sections:
            yield from _rows(part, inner, default if isinstance(default, part) else None)


def _sections(kind: Any) -> list[type[BaseModel]]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return [kind]
    return [section for part in typing.get_args(kind) for section in _sections(part)]


def _type(field: FieldInfo) -> str:
    bounds = _bounds(field.metadata)
    kind = _kind(field.annotation)
    return f"{kind}, {bounds}" if bounds else kind


def _kind(kind: Any) -> str:
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        inner = [m for data in parts[1:] for m in getattr(data, "metadata", [])]
        bounds = _bounds([*parts[1:], *inner])
        return f"{_kind(parts[0])}, {bounds}" if bounds else _kind(parts[0])
    if origin is typing.Literal:
        return " or ".join(f"`{part}`" for part in parts)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_kind(part) for part in parts))
    if origin is list:
        return f"list of {_kind(parts[0])}"
    if origin is tuple:
        return f"list of {len(parts)}: {_kind(parts[0])}"
    if origin is dict:
        return f"mapping of {_kind(parts[0])} to {_kind(parts[1])}"
    if kind is type(None):
        return "null"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "section"
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{value}`" for value in kind)
    return NAMES[kind]


def _bounds(metadata: list[Any]) -> str:
    said = [
        text.format(_number(value))
        for name, text in BOUNDS
        for data in metadata
        if isinstance(value := getattr(data, name, None), int | float)
    ]
    return ", ".join(dict.fromkeys(said))


def _number(value: float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}"


def _default(field: FieldInfo, given: Any) -> str:
    """Return the default as text.

    Args:
        field: of the key.
        given: the value of a section that leaves the key out; None takes the field's default.
    """
    if field.is_required():
        return "**needed**"
    value = field.get_default() if given is None else given
    if isinstance(value, BaseModel):
        return "its keys' own" if not hasattr(value, "kind") else f"`kind: {value.kind}`"
    plain = str(value) if isinstance(value, Path) else value
    return f"`{json.dumps(plain)}`" if not isinstance(plain, str) else f"`{plain}`"


def _text(field: FieldInfo, key: str) -> str:
    if not field.description:
        raise ValueError(f"{key} has no description")
    text = " ".join(field.description.split()).removesuffix(".").replace("|", "\\|")
    return text[0].upper() + text[1:]


if __name__ == "__main__":
    print(reference(), end="")
