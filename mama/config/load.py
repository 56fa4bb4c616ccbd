"""Read YAML files into validated configuration; errors name the file, the key and the fix."""

import difflib
import typing
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from mama.config.messages import in_words
from mama.errors import ConfigError

Model = TypeVar("Model", bound=BaseModel)


def load(
    kind: type[Model],
    path: Path,
    overrides: Sequence[str] = (),
    *,
    without: Collection[str] = (),
) -> Model:
    """Read a YAML file into `kind`, with `a.b=c` overrides (values are YAML).

    Args:
        kind: the model of the file.
        path: the YAML file.
        overrides: assignments of the form `a.b=value`, applied in order.
        without: top-level keys that the file may have but `kind` does not know.

    Raises:
        ConfigError: missing file, invalid YAML, unknown key, wrong type or impossible value. If an
            override introduced the mistake, the error names the override instead of the file.
    """

    def values(count: int) -> dict[str, Any]:
        whole = read_yaml(path, overrides[:count])
        return {key: value for key, value in whole.items() if key not in without}

    try:
        return kind.model_validate(values(len(overrides)))
    except ValidationError as error:
        wrong = _identity(_problems(error)[0])
        # Try the file alone, then add one override at a time, until the mistake appears.
        place = next(
            f"--set {overrides[count - 1]}" if count else str(path)
            for count in range(len(overrides) + 1)
            if wrong in map(_identity, _mistakes(kind, values(count)))
        )
        raise _explain(kind, error, place) from None


class _PlainLoader(yaml.SafeLoader):
    """YAML loader without aliases, since a few hundred bytes of them can expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "aliases are not allowed", mark)
        return super().compose_node(parent, index)


def read_yaml(path: Path, overrides: Iterable[str] = ()) -> dict[str, Any]:
    """Return the file's mapping with the overrides applied."""
    try:
        values = yaml.load(path.read_text(encoding="utf-8"), _PlainLoader)
    except FileNotFoundError:
        raise ConfigError(
            "no such file", where=str(path), fix="Give the path of a YAML file"
        ) from None
    except IsADirectoryError:
        raise ConfigError(
            "is a folder", where=str(path), fix="Give the path of the YAML file in it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot be read ({type(error).__name__})", where=str(path)) from None
    except RecursionError:
        raise ConfigError("is nested too deeply", where=str(path)) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date such as 2024-13-45
        raise ConfigError(
            f"is not YAML: {_first_line(error)}", where=str(path), fix="Correct that line"
        ) from None
    if not isinstance(values, dict):
        raise ConfigError("is not a mapping of keys to values", where=str(path))
    for override in overrides:
        _put(values, override)
    return values


def build(kind: type[Model], values: Any, where: str) -> Model:
    """Validate a mapping; raise the first mistake as a ConfigError."""
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _explain(kind, error, where) from None


def _put(values: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    parts = key.split(".")
    if not equals or not all(parts):
        raise ConfigError("is not of the form a.b=value", where=f"--set {override}")
    try:
        value = yaml.load(text, _PlainLoader)
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ConfigError("has a value that is not YAML", where=f"--set {override}") from None
    place = values
    for part in parts[:-1]:
        place = place.setdefault(part, {})
        if not isinstance(place, dict):
            raise ConfigError(f"{part!r} is a value, not a section", where=f"--set {override}")
    place[parts[-1]] = value


def _first_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    place = f"line {mark.line + 1}: " if mark else ""
    return place + str(getattr(error, "problem", None) or "cannot be parsed")


def _problems(error: ValidationError) -> list[ErrorDetails]:
    """Return the problems, unknown keys first: a misspelt required key is also a missing one."""
    return sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")


def _mistakes(kind: type[BaseModel], values: Any) -> list[ErrorDetails]:
    try:
        kind.model_validate(values)
    except ValidationError as error:
        return error.errors()
    return []


def _identity(problem: ErrorDetails) -> tuple[Any, ...]:
    """Return what identifies a problem; the other keys of its section do not."""
    given = problem["input"]
    return problem["type"], problem["loc"], None if isinstance(given, dict) else repr(given)


def _explain(kind: type[BaseModel], error: ValidationError, where: str) -> ConfigError:
    problems = _problems(error)
    first = problems[0]
    key, *others = (".".join(map(str, problem["loc"])) or "the file" for problem in problems)
    more = f" (and {len(others)} more: {', '.join(others)})" if others else ""
    if first["type"] == "extra_forbidden":
        return ConfigError(f"unknown key {key!r}{more}", where=where, fix=_suggest(kind, first))
    if first["type"] == "missing":
        return ConfigError(f"key {key!r} is missing{more}", where=where, fix="Add it")
    given = first.get("input")
    shown = f" (is {'null' if given is None else repr(given)})" if _is_scalar(given) else ""
    return ConfigError(f"key {key!r}: {in_words(first)}{shown}{more}", where=where)


def _suggest(kind: type[BaseModel], problem: ErrorDetails) -> str:
    """Return the advice on an unknown key: its own section, a similar key, or all known keys."""
    name, choices = str(problem["loc"][-1]), _keys_at(kind, problem["loc"][:-1])
    elsewhere = _keys_of_sections(kind) if len(problem["loc"]) <= 2 else {}
    if 1 <= len(homes := elsewhere.get(name, [])) <= 3:
        return f"Write it as {' or '.join(homes)}"
    if near := difflib.get_close_matches(name, choices, n=1):
        return f"Did you mean {near[0]!r}?"
    if near := difflib.get_close_matches(name, elsewhere, n=1):
        return f"Did you mean {elsewhere[near[0]][0]!r}?"
    return f"Known keys: {', '.join(choices)}"


def _keys_of_sections(kind: type[BaseModel]) -> dict[str, list[str]]:
    """Return the places of each key: sections under their own names, keys as `section.key`."""
    places: dict[str, list[str]] = {}
    for section, field in kind.model_fields.items():
        if (found := _only_section(field.annotation)) is not None:
            places.setdefault(section, []).append(section)
            for key in found.model_fields:
                places.setdefault(key, []).append(f"{section}.{key}")
    return places


def _is_scalar(value: Any) -> bool:
    return isinstance(value, int | float | str | bool | None)


def _keys_at(kind: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of `kind` at `location`, following nested models, lists and union tags."""
    place: Any = kind
    for part in location:
        section = _only_section(place)
        if isinstance(part, int):
            place = typing.get_args(place)[0]
        elif section is not None:
            place = section.model_fields[part].annotation if part in section.model_fields else None
        else:
            place = next((k for k in typing.get_args(place) if _has_tag(k, part)), None)
    section = _only_section(place)
    return sorted(section.model_fields) if section is not None else []


def _only_section(kind: Any) -> Any:
    """Return `kind` if it is a section, or the only section of a union such as `Section | None`."""
    sections = [k for k in (kind, *typing.get_args(kind)) if _is_section(k)]
    return sections[0] if len(sections) == 1 and typing.get_origin(kind) is not list else None


def _has_tag(kind: Any, tag: int | str) -> bool:
    """Return True if `tag` is a value of one of the literals of `kind`, a member of a union."""
    return _is_section(kind) and any(
        tag in typing.get_args(field.annotation) for field in kind.model_fields.values()
    )


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)
