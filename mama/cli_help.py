"""`--help` says what each argument is."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from typer.core import TyperArgument


@contextmanager
def argument_help() -> Iterator[None]:
    """Within the block commands keep the help of their arguments.

    Click from 8.5 on has such a help of its own, and empties the one that typer before has put there.
    """
    make = TyperArgument.__init__

    def make_with_help(self: TyperArgument, **options: Any) -> None:
        make(self, **options)
        self.help = options.get("help")

    TyperArgument.__init__ = make_with_help  # type: ignore[method-assign]
    try:
        yield
    finally:
        TyperArgument.__init__ = make  # type: ignore[method-assign]
