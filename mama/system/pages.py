"""HTML pages from templates beside the code that fills them."""

from functools import partial
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mama.system.formats import figure, signed, size

# The formats of numbers that templates apply.
FILTERS = {
    "figure": partial(figure, dash="–"),
    "signed": partial(signed, dash="–"),
    "size": size,
}


def render(template: Path, **values: Any) -> str:
    """Return a page; values are escaped, and one that the template lacks is an error.

    Args:
        template: file of the template.
        values: what the template shows.
    """
    environment = Environment(
        loader=FileSystemLoader(template.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= FILTERS
    return environment.get_template(template.name).render(values)
