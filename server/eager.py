"""A shorter pause in Flower's Grid: a reply is announced before its content is there, and Flower looks for that again
after 1 s, then 2, 4, 8. Flower's private module, for flwr 1.41."""

from functools import partial

from flwr.supercore.inflatable.inflatable_utils import pull_objects
from flwr.superlink.grid import http_grid


def look_eagerly() -> None:
    """Let the Grid of this process look for a reply's content after 0.05 s, and then at most every second."""
    http_grid.pull_objects = partial(
        pull_objects, initial_backoff=0.05, backoff_cap=1.0, max_tries_per_object=None
    )
