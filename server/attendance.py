"""Which sites are connected, and as which node."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from math import inf

from mama.errors import ProtocolError
from mama.exchange.protocol import PROTOCOL, Answer, Description, Task
from server.checks import check_answer
from server.post import Post, Reply

# Told of what is wrong with a node: (site or node's name, problem, code).
Complaint = Callable[[str, str, str], None]
LOOK_S = 5.0
# A node that Flower no longer lists has not been heard of for about so long: two heartbeats.
UNHEARD_S = 60.0


@dataclass(eq=False)
class Seat:
    """A site's connection: a site that was away gets another one, even as the same node.

    `protocol` is the version in which it is asked, `key` that with which its answers were signed when it came.
    """

    node: int
    key: str | None
    protocol: int = PROTOCOL


class Attendance:
    """Sites by name. A node says who it is and what its base model is when it is first seen and after it was away;
    with a roster only a signature says who it is.

    Args:
        base: what every site's base model must be.
        task: what a node is asked, given its number.
        wait_s: how long it may take to answer.
        left: told of a site that is no longer connected: (site, seconds since it was last heard of).
    """

    def __init__(
        self,
        post: Post,
        base: Description,
        task: Callable[[int], Task],
        wait_s: float,
        complain: Complaint,
        welcome: Callable[[Answer], None],
        left: Callable[[str, float], None],
    ):
        self._post, self._base, self._task, self._wait_s = post, base, task, wait_s
        self._complain, self._welcome, self._left = complain, welcome, left
        self.seats: dict[str, Seat] = {}
        self._asked: dict[int, tuple[str, Task, float]] = {}
        self._refused: set[int] = set()
        self._twins: dict[int, str] = {}
        self._here: set[int] = set()
        # When each site that went away was last heard of.
        self._heard: dict[str, float] = {}
        self._looked = -LOOK_S

    @property
    def nodes(self) -> int:
        """How many nodes were there at the last look."""
        return len(self._here)

    @property
    def undecided(self) -> bool:
        """Whether a node still has to say who it is."""
        return bool(self._asked)

    def look(self, *, now: bool = False) -> None:
        """Let go of nodes that are away and ask new ones who they are; every LOOK_S seconds, or `now`."""
        if not now and time.monotonic() < self._looked + LOOK_S:
            return
        self._looked = time.monotonic()
        self._here = here = self._post.nodes()
        for site, seat in list(self.seats.items()):
            # A revoked site is asked no more, and one with a new key must say again who it is.
            if seat.node not in here or seat.key != self._post.signers.key_of(site):
                del self.seats[site]
                self._heard[site] = self._looked - UNHEARD_S
                self._left(site, UNHEARD_S)
        self._refused &= here
        self._asked = {node: asked for node, asked in self._asked.items() if node in here}
        # A twin whose elder has gone is asked again, and is the site then.
        self._twins = {n: s for n, s in self._twins.items() if n in here and s in self.seats}
        known = {seat.node for seat in self.seats.values()}
        for node in sorted(here - known - self._refused - set(self._asked) - set(self._twins)):
            self._ask(node)

    def silent_s(self, site: str) -> float:
        """The seconds since a site was last heard of: 0 while it is connected, no end if it never was."""
        if site in self.seats:
            return 0.0
        return time.monotonic() - self._heard.get(site, -inf)

    def ask_refused_again(self) -> None:
        """Give nodes that were refused another chance at the next look."""
        self._refused.clear()

    def hear(self) -> None:
        """Take up what nodes have said of themselves."""
        for node, (name, task, until) in list(self._asked.items()):
            for reply in self._post.pull(name, task):
                if self._asked.pop(node, None):
                    self._decide(node, task, reply)
            if node in self._asked and time.monotonic() > until:
                del self._asked[node]
                self._refuse(node, f"node {node}", "no answer before the deadline")

    def _ask(self, node: int, protocol: int = PROTOCOL) -> None:
        task = self._task(node).model_copy(update={"protocol": protocol})
        name = self._post.push(node, task, b"", self._wait_s)
        if name is not None:
            self._asked[node] = name, task, time.monotonic() + self._wait_s

    def _decide(self, node: int, task: Task, reply: Reply) -> None:
        if reply.lost:
            return  # it is asked anew at the next look
        answer = reply.answer
        if answer is None:
            self._refuse(node, f"node {node}", reply.problem)
        elif answer.protocol < task.protocol:
            self._ask(node, answer.protocol)
        elif answer.status != "ok":
            name = answer.site if answer.site != "unknown" else f"node {node}"
            self._refuse(node, name, answer.status.sentence, answer.status.value)
        elif fault := _fault(answer, task):
            self._refuse(node, f"node {node}", fault)
        elif answer.description != self._base:
            self._refuse(
                node, answer.site, "its base model is not the run's; install the same weights"
            )
        elif answer.site in self.seats:
            self._twins[node] = answer.site
            problem = "two nodes have this site's name; give each its own"
            self._complain(answer.site, problem, "refused")
        else:
            key = self._post.signers.key_of(answer.site)
            self.seats[answer.site] = Seat(node, key, task.protocol)
            self._heard.pop(answer.site, None)
            self._welcome(answer)

    def _refuse(self, node: int, name: str, problem: str, code: str = "refused") -> None:
        self._refused.add(node)
        self._complain(name, problem, code)


def _fault(answer: Answer, task: Task) -> str:
    try:
        check_answer(answer, task)
    except ProtocolError as error:
        return str(error)
    return ""
