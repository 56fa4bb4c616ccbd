"""Messages under way: which task of which exchange each one carries, and the replies to them."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mama.exchange.protocol import Kind, Task
from server.round.connections import Connection
from server.round.state import RoundState
from server.round.transport import GRACE_S, Reply, Transport


@dataclass
class Exchange:
    """Tasks of one `RoundState`, by site, and the bytes sent for each."""

    kind: Kind
    tasks: Mapping[str, Task]
    state: RoundState
    bytes_down: Counter[str] = field(default_factory=Counter)


@dataclass(frozen=True)
class _Message:
    exchange: Exchange
    site: str
    expires: float


class Dispatcher:
    """Sends tasks and polls for replies.

    Messages of closed exchanges are remembered until Flower forgets them, so that a late reply is
    recognised.
    """

    def __init__(self, transport: Transport):
        self._transport = transport
        self._messages: dict[str, _Message] = {}

    def send(self, exchange: Exchange, site: str, connection: Connection, payload: bytes) -> None:
        """Send a site's task with its remaining time; do nothing if Flower does not accept it."""
        now = time.monotonic()
        left_s = exchange.state.left_s(site, now)
        values = {"deadline_s": left_s, "protocol": connection.protocol}
        task = exchange.tasks[site].model_copy(update=values)
        exchange.bytes_down[site] += len(payload) + len(task.encode())
        name = self._transport.push(connection.node, task, payload, left_s)
        if name is not None:
            exchange.state.mark_sent(site, connection)
            self._messages[name] = _Message(exchange, site, now + left_s + GRACE_S)

    def replies(self, kind: Kind) -> Iterator[tuple[Exchange, str, Reply]]:
        """Yield the replies to tasks of a kind; other replies stay with Flower until polled."""
        for name, message in list(self._messages.items()):
            exchange, site = message.exchange, message.site
            if exchange.kind != kind:
                continue
            for reply in self._transport.pull(name, exchange.tasks[site]):
                self._messages.pop(name, None)
                yield exchange, site, reply
            if time.monotonic() > message.expires:
                self._messages.pop(name, None)
