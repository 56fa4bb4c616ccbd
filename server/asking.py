"""Ask sites and take their answers until all came, or the time is up and those that came are enough."""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from math import inf
from typing import Literal

from mama.exchange.codes import ErrorCode
from mama.exchange.protocol import Task
from server.attendance import Attendance, Seat
from server.post import GRACE_S, Post, Reply

# A task that is lost so often in one round is not lost by accident.
PUSHES = 5
# Looks at the post are so many seconds apart, from the first to the last while nothing comes.
QUICK_S, SLOW_S = 0.05, 2.0


When = Literal["time", "late", "again"]


@dataclass
class Errand:
    """One site's task in one round. `until`: when its time is up, counted from its first chance to begin."""

    site: str
    task: Task
    seat: Seat | None = None
    until: float | None = None
    pushes: int = 0
    begun: bool = False
    answered: bool = False
    bytes_down: int = 0

    def over(self, now: float) -> bool:
        """Whether its time is up."""
        return self.until is not None and now >= self.until


@dataclass(frozen=True)
class Pushed:
    """A message whose answer may still come."""

    errand: Errand
    expires: float


@dataclass(frozen=True)
class Arrival:
    """A reply to a task: in `time`, `late` after its round had closed, or `again` after another was taken.

    `bytes_down` is what the site was sent for it.
    """

    site: str
    task: Task
    reply: Reply
    when: When
    bytes_down: int


class Asking:
    """Carries tasks to sites and answers back.

    A task is pushed again, under the same name, when Flower lost it, when its site lacks the model that the change it
    was sent is to, when it comes back after it was away, and when the round is extended; whichever answer comes first
    is taken. What is still open when a round closes is remembered until Flower forgets it too, so that late answers
    are recognised.

    Args:
        at_once: tasks under way at the same time; 1 where sites take turns in one process.
        tell: told of tasks that are pushed again: (site, round).
        gone_s: a site that is not heard of for so long at its task is not waited for where the others are enough.
    """

    def __init__(
        self,
        post: Post,
        attendance: Attendance,
        at_once: int,
        tell: Callable[[str, int], None],
        gone_s: float = inf,
    ):
        self._post, self._attendance, self._at_once, self._tell = post, attendance, at_once, tell
        self._gone_s = gone_s
        self._pushed: dict[str, Pushed] = {}
        self._open: dict[str, Errand] = {}

    def ask(
        self,
        tasks: Iterable[tuple[str, Task]],
        payload_for: Callable[[str], bytes],
        wait_s: float,
        *,
        enough: Callable[[], bool] = lambda: True,
        extend: Callable[[], bool] = lambda: False,
    ) -> Iterator[Arrival]:
        """Yield what arrives, in the order of `tasks` where sites take turns.

        A site that is away at the beginning is waited for only as long as others work or its answer is needed.

        Args:
            tasks: by site.
            payload_for: the tensors that go with a site's task.
            wait_s: seconds each site has.
            enough: whether the round may close without those that are silent.
            extend: called when the time is up and it may not; whether everybody gets another `wait_s`.
        """
        self._open = {task.task: Errand(site, task) for site, task in tasks}
        pause = QUICK_S
        while self._open:
            self._attendance.look()
            self._attendance.hear()
            self._push_what_can_be(payload_for, wait_s)
            came = False
            for arrival in self._arrivals(next(iter(self._open.values())).task.kind):
                came = True
                yield arrival
            if not self._open or (self._idle() and enough()):
                break
            if all(errand.over(time.monotonic()) for errand in self._open.values()):
                if enough() or not extend():
                    break
                for errand in self._open.values():
                    errand.seat, errand.until, errand.pushes = None, None, 0
            if not came:
                time.sleep(pause)
            pause = QUICK_S if came else min(1.5 * pause, SLOW_S)
        self._open = {}

    def _push_what_can_be(self, payload_for: Callable[[str], bytes], wait_s: float) -> None:
        now = time.monotonic()
        for errand in list(self._open.values()):
            seat = self._attendance.seats.get(errand.site)
            if errand.over(now) or (errand.seat is not None and seat in (None, errand.seat)):
                continue
            busy = sum(e.seat is not None and not e.over(now) for e in self._open.values())
            if errand.seat is None and busy >= self._at_once:
                continue
            errand.until = errand.until or now + wait_s
            if seat is not None:
                self._push(errand, seat, payload_for, errand.until - now)

    def _push(
        self, errand: Errand, seat: Seat, payload_for: Callable[[str], bytes], left_s: float
    ) -> None:
        if errand.begun:
            self._tell(errand.site, errand.task.round)
        errand.pushes += 1
        task = errand.task.model_copy(update={"deadline_s": left_s, "protocol": seat.protocol})
        payload = payload_for(errand.site)
        errand.bytes_down += len(payload) + len(task.encode())
        name = self._post.push(seat.node, task, payload, left_s)
        if name is not None:
            errand.seat, errand.begun = seat, True
            self._pushed[name] = Pushed(errand, time.monotonic() + left_s + GRACE_S)

    def _arrivals(self, kind: str) -> Iterator[Arrival]:
        """Late answers of another kind are left where they are until that kind is asked for."""
        for name, pushed in list(self._pushed.items()):
            if pushed.errand.task.kind != kind:
                continue
            for reply in self._post.pull(name, pushed.errand.task):
                self._pushed.pop(name, None)
                if arrival := self._sorted(pushed.errand, reply):
                    yield arrival
            if time.monotonic() > pushed.expires:
                self._pushed.pop(name, None)

    def _sorted(self, errand: Errand, reply: Reply) -> Arrival | None:
        task = errand.task
        if self._open.get(task.task) is errand:
            if _worth_another(reply) and errand.pushes < PUSHES:
                errand.seat = None
                self._attendance.look(now=True)
                return None
            del self._open[task.task]
            errand.answered = True
            return Arrival(errand.site, task, reply, "time", errand.bytes_down)
        if reply.answer is None:
            return None
        when: When = "again" if errand.answered else "late"
        return Arrival(errand.site, task, reply, when, errand.bytes_down)

    def _idle(self) -> bool:
        """Whether nobody is at work: all that is open is of sites away from the beginning, or gone for `gone_s`."""
        return all(self._is_away(errand) for errand in self._open.values())

    def _is_away(self, errand: Errand) -> bool:
        silent_s = self._attendance.silent_s(errand.site)
        return silent_s > 0 and (silent_s >= self._gone_s or not errand.begun)


def _worth_another(reply: Reply) -> bool:
    """Whether the same task may well succeed: what comes with it the next time is the whole model."""
    return reply.lost or (reply.answer is not None and reply.answer.status == ErrorCode.NO_MODEL)
