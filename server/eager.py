"""How Flower's Grid waits for a reply's content, which is announced before it is there: Flower looks again after 1 s,
then 2, 4, 8, for two hours, and hears nobody else in this time. Flower's private modules, for flwr 1.41."""

import time
from collections.abc import Callable
from typing import Any

from flwr.supercore.inflatable import inflatable_utils
from flwr.supercore.inflatable.inflatable_utils import ObjectPullError, ObjectUnavailableError
from flwr.superlink.grid import http_grid

# A reply of which nothing comes for so long is given up: the task counts as lost and is asked again.
STALLED_S = 60.0


def look_eagerly() -> None:
    """Let the Grid of this process look after 0.05 s and then at most every second, as long as something comes."""
    http_grid.pull_objects = pull_while_it_comes


def pull_while_it_comes(
    object_ids: list[str], pull_object_fn: Callable[[str], bytes], **_: Any
) -> dict[str, bytes]:
    """Flower's `pull_objects`.

    Raises:
        ObjectPullError: nothing came for a while.
    """
    last = time.monotonic()

    def pull(object_id: str) -> bytes:
        nonlocal last
        try:
            content = pull_object_fn(object_id)
        except ObjectUnavailableError:
            if time.monotonic() - last > STALLED_S:
                raise ObjectPullError(object_id, "its content does not come") from None
            raise
        last = time.monotonic()
        return content

    return inflatable_utils.pull_objects(
        object_ids,
        pull,
        max_time=None,
        max_tries_per_object=None,
        initial_backoff=0.05,
        backoff_cap=1.0,
    )
