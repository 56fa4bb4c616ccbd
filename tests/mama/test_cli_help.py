"""`--help` describes every argument and option of every command."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
import typer


def commands(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    for part, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {part}".strip())
    if not hasattr(command, "commands"):
        yield name, command


@pytest.mark.parametrize("room", ["mama", "client", "server", "sim"])
def test_nothing_is_left_to_guess(room: str) -> None:
    made = typer.main.get_command(import_module(f"{room}.cli").app)
    found = list(commands(made))
    assert len(found) > 1
    for name, command in found:
        assert command.help, name
        for parameter in command.params:
            # The researcher's commands tell of their arguments in the text above.
            described = f"{parameter.name.upper()} is" in command.help
            assert parameter.help or described, f"{name}: {parameter.name}"


def test_it_is_what_a_person_sees(command: Callable[..., Any]) -> None:
    for room, arguments, text in (
        ("client", ("init",), "Folder of the new site"),
        ("client", ("base", "add"), "The hospital's site file"),
        ("server", ("enrol",), "Its public key, node.pub"),
    ):
        shown = command(import_module(f"{room}.cli").main, *arguments, "--help")
        assert shown.code == 0
        assert text in shown.out
