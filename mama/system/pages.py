"""HTML pages from templates beside the code that fills them."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined


def render(
    template: Path, filters: dict[str, Callable[..., str]] | None = None, **values: Any
) -> str:
    """Return a page; values are escaped, and one that the template lacks is an error.

    Args:
        template: file of the template.
        filters: functions that the template may apply, by name.
        values: what the template shows.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= filters or {}
    return environment.get_template(template.name).render(values)
