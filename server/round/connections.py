"""Connections: which node is which site, learned from signed answers to `describe` tasks."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from mama.errors import ProtocolError
from mama.exchange.protocol import PROTOCOL, Answer, Description, Task
from server.round.transport import Reply, Transport
from server.round.validation import check_answer

# Seconds between two looks at Flower's list of nodes.
LOOK_S = 5.0
# Flower lists a node until about two heartbeats after its last contact.
UNHEARD_S = 60.0


@dataclass(eq=False)
class Connection:
    """A site's connection; a site that was away gets a new one, even as the same node.

    Attributes:
        protocol: version of the tasks it is sent.
        key: the key that signed its answer when it connected.
    """

    node: int
    key: str | None
    protocol: int = PROTOCOL


@dataclass(frozen=True)
class Joined:
    """A node has shown that it is a site of the run."""

    answer: Answer


@dataclass(frozen=True)
class Left:
    """A site has no connection any more; `silent_s` is None where it was revoked."""

    site: str
    silent_s: float | None


@dataclass(frozen=True)
class Refused:
    """A node, by site name or number, that is no site of the run."""

    name: str
    problem: str
    code: str = "refused"


Change = Joined | Left | Refused


class Connections:
    """Connected sites by name.

    A node gets a `describe` task, on itself and its base model, when it first connects and after
    each absence.

    Args:
        base: the base model that every site must have.
        task_for: makes the `describe` task of a node.
        wait_s: seconds that a node has to answer it.
    """

    def __init__(
        self,
        transport: Transport,
        base: Description,
        task_for: Callable[[int], Task],
        wait_s: float,
    ):
        self._transport, self._base = transport, base
        self._task_for, self._wait_s = task_for, wait_s
        self.by_site: dict[str, Connection] = {}
        # Nodes that have yet to describe themselves: message, task and end of their time.
        self._asked: dict[int, tuple[str, Task, float]] = {}
        self._refused: set[int] = set()
        # Second nodes of a site, which take its name over when the first is gone.
        self._duplicates: dict[int, str] = {}
        self._nodes: set[int] = set()
        self._last_heard: dict[str, float] = {}
        self._looked = -LOOK_S

    @property
    def nodes(self) -> int:
        """Number of nodes at the last look."""
        return len(self._nodes)

    @property
    def undecided(self) -> bool:
        """True while a node has yet to describe itself."""
        return bool(self._asked)

    def poll(self, *, now: bool = False) -> list[Change]:
        """Return what has changed; nodes are listed every LOOK_S seconds, or `now`."""
        changes: list[Change] = []
        if now or time.monotonic() >= self._looked + LOOK_S:
            changes += self._look()
        for node, (name, task, until) in list(self._asked.items()):
            for reply in self._transport.pull(name, task):
                if self._asked.pop(node, None):
                    changes += self._decide(node, task, reply)
            if node in self._asked and time.monotonic() > until:
                del self._asked[node]
                changes.append(self._refuse(node, f"node {node}", "no answer before the deadline"))
        return changes

    def silent_s(self, site: str) -> float:
        """Return the seconds since a site's last contact.

        0 while connected, infinite if never connected or revoked.
        """
        if site in self.by_site:
            return 0.0
        return time.monotonic() - self._last_heard.get(site, -inf)

    def retry_refused(self) -> None:
        """Ask refused nodes again at the next look."""
        self._refused.clear()

    def _look(self) -> list[Change]:
        self._looked = time.monotonic()
        self._nodes = nodes = self._transport.nodes()
        changes: list[Change] = []
        for site, connection in list(self.by_site.items()):
            # A revoked site gets nothing more, and one with a new key must describe itself again.
            key = self._transport.signers.key_of(site)
            if connection.node not in nodes or connection.key != key:
                del self.by_site[site]
                # A revoked site is not waited for.
                silent_s = UNHEARD_S if key is not None else None
                self._last_heard[site] = self._looked - (inf if silent_s is None else silent_s)
                changes.append(Left(site, silent_s))
        self._refused &= nodes
        self._asked = {node: asked for node, asked in self._asked.items() if node in nodes}
        self._duplicates = {
            n: s for n, s in self._duplicates.items() if n in nodes and s in self.by_site
        }
        known = {connection.node for connection in self.by_site.values()}
        for node in sorted(
            nodes - known - self._refused - set(self._asked) - set(self._duplicates)
        ):
            self._ask(node)
        return changes

    def _ask(self, node: int, protocol: int = PROTOCOL) -> None:
        task = self._task_for(node).model_copy(update={"protocol": protocol})
        name = self._transport.push(node, task, b"", self._wait_s)
        if name is not None:
            self._asked[node] = name, task, time.monotonic() + self._wait_s

    def _decide(self, node: int, task: Task, reply: Reply) -> list[Change]:
        if reply.lost:
            return []  # it is queried again at the next look
        answer = reply.answer
        if answer is None:
            return [self._refuse(node, f"node {node}", reply.problem)]
        if answer.protocol < task.protocol:
            self._ask(node, answer.protocol)
            return []
        if answer.status != "ok":
            name = answer.site if answer.site != "unknown" else f"node {node}"
            return [self._refuse(node, name, answer.status.sentence, answer.status.value)]
        if fault := _fault(answer, task):
            return [self._refuse(node, f"node {node}", fault)]
        if answer.description != self._base:
            problem = "its base model is not the run's; install the same weights"
            return [self._refuse(node, answer.site, problem)]
        if answer.site in self.by_site:
            self._duplicates[node] = answer.site
            return [Refused(answer.site, "two nodes have this site's name; give each its own")]
        key = self._transport.signers.key_of(answer.site)
        self.by_site[answer.site] = Connection(node, key, task.protocol)
        self._last_heard.pop(answer.site, None)
        return [Joined(answer)]

    def _refuse(self, node: int, name: str, problem: str, code: str = "refused") -> Refused:
        self._refused.add(node)
        return Refused(name, problem, code)


def _fault(answer: Answer, task: Task) -> str:
    try:
        check_answer(answer, task)
    except ProtocolError as error:
        return str(error)
    return ""
