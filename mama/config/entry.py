"""Changes of single entries of a configuration file; comments and all else stay as written."""

import json
import os
from pathlib import Path

import yaml

from mama.config.load import read_yaml
from mama.errors import ConfigError
from mama.system.files import replacing


def put_entries(path: Path, entries: dict[tuple[str, str], str]) -> None:
    """Set entries of a YAML file's top-level mappings, given as {(section, name): value}; atomic.

    The file, which the caller has loaded, keeps its mode and owner.

    Raises:
        ConfigError: it is so written that the entries must be put in by hand.
    """
    path = path.resolve()
    wanted, text = read_yaml(path), path.read_bytes().decode()
    for (section, name), value in entries.items():
        wanted[section] = wanted.get(section, {}) | {name: value}
    try:
        for (section, name), value in entries.items():
            text = _with_entry(text, section, name, value)
        done = yaml.safe_load(text) == wanted
    except (yaml.YAMLError, ValueError):
        done = False
    if not done:
        lines = "; ".join(f"{s}: {{{_quoted(n)}: {_quoted(v)}}}" for (s, n), v in entries.items())
        raise ConfigError(
            "is written in a way that only a person can change", where=str(path), fix=f"Add {lines}"
        )
    before = path.stat()
    with replacing(path, private=True) as temporary:
        temporary.write_bytes(text.encode())
        temporary.chmod(before.st_mode & 0o777)
        if before.st_uid != os.geteuid():  # root edits the file of the service's user
            os.chown(temporary, before.st_uid, before.st_gid)


def _with_entry(text: str, section: str, name: str, value: str) -> str:
    """Return the text with the entry, if it is written plainly; the caller checks the result."""
    entry = f"{_quoted(name)}: {_quoted(value)}"
    found = _value_of(yaml.compose(text, yaml.SafeLoader), section)
    if found is None:
        return f"{text}{'' if text.endswith(chr(10)) else chr(10)}{section}:\n  {entry}\n"
    known = _value_of(found, name)
    if known is not None:
        return text[: known.start_mark.index] + _quoted(value) + text[known.end_mark.index :]
    if isinstance(found, yaml.MappingNode) and found.flow_style:
        place = found.start_mark.index + 1
        return f"{text[:place]}{entry}{', ' if found.value else ''}{text[place:]}"
    place, indent = found.start_mark.index, " " * found.start_mark.column
    return f"{text[:place]}{entry}\n{indent}{text[place:]}"


def _value_of(node: yaml.Node | None, key: str) -> yaml.Node | None:
    pairs = node.value if isinstance(node, yaml.MappingNode) else []
    return next((value for name, value in pairs if name.value == key), None)


def _quoted(value: str) -> str:
    """A string in double quotes, which mean the same in JSON and in YAML."""
    return json.dumps(value, ensure_ascii=False)
