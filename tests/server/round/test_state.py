"""The state machine of an exchange, as scripts of commands and expected states.

A script line is `command -> expected`. Commands: `at T` sets the time, `connect`/`disconnect SITE`,
`due` sends what is due, `SITE OUTCOME` delivers a message, `done`/`fail SITE` judges its answer,
`next` asks how to go on, `extend` and `close` do as they say.
"""

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from mama.config.federation import ParticipationConfig
from server.cohort.quorum import Quorum
from server.round.state import MAX_SENDS, RETRY_S, Next, Outcome, RoundState, TaskState, Verdict

WAIT_S = 60.0
SITES = ("a", "b", "c")


def state(quorum: int = 2, sites: tuple[str, ...] = SITES, **options: Any) -> RoundState:
    config = ParticipationConfig(quorum=quorum)
    options = {"slots": 10, "quorum": Quorum(config, {}), "expected": list(sites)} | options
    return RoundState(sites, WAIT_S, **options)


class Script:
    """Runs a script against a state."""

    def __init__(self, machine: RoundState):
        self.state, self.now = machine, 0.0
        self.connected: dict[str, int] = {}
        self.left: dict[str, float] = {}
        self.connections = 0

    def run(self, text: str) -> None:
        for number, line in enumerate(text.strip().splitlines(), 1):
            command, _, expected = (part.strip() for part in line.partition("->"))
            found = self.do(*command.split())
            assert found == expected, f"line {number}: {command} -> {found}, not {expected}"

    def do(self, *words: str) -> str:
        match words:
            case ("at", when):
                self.now = float(when)
            case ("connect", *sites):
                for site in sites:
                    self.connections += 1
                    self.connected[site] = self.connections
                    self.left.pop(site, None)
            case ("disconnect", site):
                del self.connected[site]
                self.left[site] = self.now
            case ("due",):
                due = self.state.due(self.now, self.connected)
                for site in due:
                    self.state.mark_sent(site, self.connected[site])
                return " ".join(due)
            case ("done", site):
                self.state.mark_done(site)
            case ("fail", site, *why):
                self.state.mark_failed(site, exhausted=why == ["budget"])
            case ("next",):
                return self.state.next(self.now, self.silent()).value
            case ("extend",):
                self.state.extend(self.now)
            case ("close",):
                self.state.close()
            case ("states",):
                return " ".join(task.state.value for task in self.state.progress.values())
            case (site, outcome):
                return self.state.on_reply(site, Outcome(outcome)).value
        return ""

    def silent(self) -> dict[str, float]:
        never = {site: float("inf") for site in SITES if site not in self.connected}
        return never | {site: self.now - when for site, when in self.left.items()}


def test_all_answer() -> None:
    Script(state()).run(
        """
        connect a b c
        due -> a b c
        next -> wait
        a answer -> accept
        done a
        b answer -> accept
        done b
        next -> wait
        c answer -> accept
        done c
        states -> done done done
        next -> close
        """
    )


def test_a_quorum_closes_when_the_time_is_up() -> None:
    Script(state()).run(
        """
        connect a b c
        due -> a b c
        a answer -> accept
        done a
        b answer -> accept
        done b
        at 59
        next -> wait
        at 60
        next -> close
        """
    )


def test_a_site_that_was_never_connected_holds_nobody_up() -> None:
    Script(state()).run(
        """
        connect a b
        due -> a b
        a answer -> accept
        done a
        next -> wait
        b answer -> accept
        done b
        next -> close
        """
    )


def test_a_site_lost_at_its_task_is_waited_for_until_it_is_gone() -> None:
    Script(state(gone_s=10)).run(
        """
        connect a b c
        due -> a b c
        a answer -> accept
        done a
        b answer -> accept
        done b
        at 1
        disconnect c
        at 10
        next -> wait
        at 11
        next -> close
        """
    )


def test_a_site_that_returns_gets_its_task_again_and_keeps_its_deadline() -> None:
    script = Script(state())
    script.run(
        """
        connect a b c
        due -> a b c
        at 30
        disconnect a
        due ->
        connect a
        due -> a
        """
    )
    assert script.state.left_s("a", 30) == 30


def test_a_lost_message_is_sent_again_a_few_times() -> None:
    script = Script(state())
    script.run("connect a b c\ndue -> a b c")
    for _ in range(MAX_SENDS - 1):
        script.run("a lost -> resend\ndue -> a")
    script.run("a lost -> accept\nfail a\ndue ->")


def test_a_site_without_the_base_model_is_sent_all_of_it() -> None:
    Script(state()).run("connect a b c\ndue -> a b c\na no_model -> resend\ndue -> a")


def test_slots_are_taken_in_turn_and_freed_by_answers_and_deadlines() -> None:
    Script(state(slots=1)).run(
        """
        connect a b c
        due -> a
        due ->
        a answer -> accept
        done a
        due -> b
        at 60
        due -> c
        next -> wait
        at 120
        next -> give_up
        """
    )


def test_without_a_quorum_the_time_is_extended() -> None:
    script = Script(state(extensions=1))
    script.run(
        """
        connect a b c
        due -> a b c
        a answer -> accept
        done a
        b problem -> accept
        fail b
        at 60
        next -> extend
        extend
        due -> c
        next -> wait
        """
    )
    script.now += RETRY_S
    script.run(
        "due -> b\nstates -> done sent sent\nb answer -> accept\ndone b\nat 150\nnext -> close"
    )


def test_extensions_run_out() -> None:
    Script(state(extensions=1)).run(
        "connect a b c\ndue -> a b c\nat 60\nnext -> extend\n"
        "extend\ndue -> a b c\nat 120\nnext -> give_up"
    )


def test_a_quorum_without_budget_is_not_waited_for() -> None:
    script = Script(state(extensions=1))
    script.run(
        """
        connect a b c
        due -> a b c
        a answer -> accept
        fail a budget
        b answer -> accept
        fail b budget
        at 60
        next -> give_up
        """
    )
    assert script.state.budget_spent


def test_late_and_duplicate_answers() -> None:
    Script(state()).run(
        """
        connect a b c
        due -> a b c
        a answer -> accept
        done a
        a answer -> duplicate
        a lost -> ignore
        b answer -> accept
        done b
        close
        c answer -> late
        a answer -> duplicate
        c problem -> ignore
        """
    )


def test_nothing_counts_after_closing() -> None:
    script = Script(state())
    script.run("connect a b c\ndue -> a b c\na answer -> accept\nclose")
    with pytest.raises(RuntimeError, match="no reply to count"):
        script.state.mark_done("a")


class Faults(RuleBasedStateMachine):
    """Random faults; the driver's side is played by the book."""

    @initialize(
        quorum=st.integers(1, 3),
        slots=st.integers(1, 3),
        extensions=st.integers(0, 2),
        gone_s=st.sampled_from([10.0, float("inf")]),
    )
    def start(self, quorum: int, slots: int, extensions: int, gone_s: float) -> None:
        self.quorum = quorum
        self.script = Script(state(quorum, slots=slots, extensions=extensions, gone_s=gone_s))
        self.folds: dict[str, int] = dict.fromkeys(SITES, 0)
        self.folded_open: set[str] = set()

    @property
    def machine(self) -> RoundState:
        return self.script.state

    @rule(seconds=st.sampled_from([0.5, 5.0, 20.0, 61.0]))
    def wait(self, seconds: float) -> None:
        self.script.now += seconds

    @rule(site=st.sampled_from(SITES))
    def reconnect(self, site: str) -> None:
        self.script.do("connect", site)

    @rule(site=st.sampled_from(SITES))
    def disconnect(self, site: str) -> None:
        if site in self.script.connected:
            self.script.do("disconnect", site)

    @precondition(lambda self: not self.machine.closed)
    @rule()
    def send(self) -> None:
        self.script.do("due")

    @rule(site=st.sampled_from(SITES), outcome=st.sampled_from(Outcome), good=st.booleans())
    def deliver(self, site: str, outcome: Outcome, good: bool) -> None:
        if not self.machine.progress[site].ever_sent:
            return
        verdict = self.machine.on_reply(site, outcome)
        if self.machine.closed:
            assert verdict not in (Verdict.ACCEPT, Verdict.RESEND)
        if verdict == Verdict.ACCEPT:
            if good and outcome == Outcome.ANSWER:
                self.machine.mark_done(site)
                self.folds[site] += 1
            else:
                self.machine.mark_failed(site)

    @precondition(lambda self: not self.machine.closed)
    @rule()
    def go_on(self) -> None:
        match self.machine.next(self.script.now, self.script.silent()):
            case Next.CLOSE:
                assert len(self.machine.done) >= self.quorum
                self.machine.close()
            case Next.GIVE_UP:
                assert len(self.machine.done) < self.quorum
                assert self.machine.extended == self.machine.extensions
                self.machine.close()
            case Next.EXTEND:
                assert len(self.machine.done) < self.quorum
                self.machine.extend(self.script.now)

    @invariant()
    def each_update_is_folded_at_most_once(self) -> None:
        assert all(count <= 1 for count in self.folds.values())
        assert self.machine.done == {site for site, count in self.folds.items() if count}

    @invariant()
    def fields_agree_with_the_state(self) -> None:
        for task in self.machine.progress.values():
            assert (task.connection is not None) == (task.state == TaskState.SENT)
            assert task.state != TaskState.SENT or task.until is not None
            assert task.state != TaskState.DONE or task.replied

    @invariant()
    def it_ends_when_the_time_is_up(self) -> None:
        if not self.machine.closed:
            late = self.script.now + 1e6
            open_tasks = [t for t in self.machine.progress.values() if t.is_open]
            started = all(t.until is not None for t in open_tasks)
            going = self.machine.next(late, self.script.silent())
            assert going != Next.WAIT or not started


TestFaults = Faults.TestCase
TestFaults.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
