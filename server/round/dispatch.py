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


class Query:
    """Tasks without tensors whose answers nobody waits for; each is sent once.

    Args:
        transport: of the run.
        wait_s: seconds that a site has for its answer.
    """

    def __init__(self, transport: Transport, wait_s: float):
        self._transport, self._wait_s = transport, wait_s
        self._sent: dict[str, tuple[str, Task, float]] = {}

    def send(self, site: str, task: Task, connection: Connection) -> None:
        """Send a site's task; do nothing if Flower does not accept it."""
        name = self._transport.push(connection.node, task, b"", self._wait_s)
        if name is not None:
            self._sent[name] = site, task, time.monotonic() + self._wait_s

    def replies(self) -> Iterator[tuple[str, Task, Reply]]:
        """Yield the first reply to each task that has one; lost ones are forgotten."""
        for name, (site, task, until) in list(self._sent.items()):
            for reply in self._transport.pull(name, task):
                if self._sent.pop(name, None) and not reply.lost:
                    yield site, task, reply
            if time.monotonic() > until:
                self._sent.pop(name, None)
