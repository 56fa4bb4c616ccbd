"""Cost per round of security checks at the sites and the coordinator.

    python -m benchmarks.federation.trust_overhead [--rounds 8] [--config configs/quickstart.yaml]
        [--set a.b=value]

The configured simulation in one process, each hospital with its own key. Checks of policy,
patients, lineage, plan, signatures and the record of evaluations are timed in place, nested checks
only once; `ratio` is the duration of a round over the same without the time of its checks. Each
answer's signature is also verified, as by a coordinator with a roster. Medians over all rounds but
the first.
"""

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import client.app
import client.handlers
import client.training.tasks
from benchmarks.common import last_line
from client.policy.evaluations import Evaluations
from client.policy.lineage import Lineage
from client.policy.plan import Plan
from client.site.config import load_site
from mama.config.load import load
from mama.exchange.protocol import Task
from mama.exchange.signature import verify_answer
from mama.exchange.signing import read_public_line
from server.run.events import Event, RoundDone
from sim.config import SimulatedExperiment
from sim.engines.keys import introduce
from sim.run import Callbacks, federate
from sim.sites import make_sites

CHECKS: list[tuple[Any, str]] = [
    (client.handlers, "_ask_policy"),
    (client.handlers, "require_planned"),
    (client.handlers, "_check_upload"),
    (client.training.tasks, "lineage"),
    (client.training.tasks, "require_patients_of"),
    (client.training.tasks, "require_patients_in"),
    (Lineage, "accept"),
    (Lineage, "is_repeated"),
    (Lineage, "trained"),
    (Plan, "__init__"),
    (Plan, "require"),
    (Plan, "count"),
    (Evaluations, "_read"),
    (Evaluations, "_write"),
    (client.app, "signature_of"),
]


class Clock:
    """Seconds spent in checks by name since the last reset."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._within = False

    @contextmanager
    def running(self, name: str) -> Iterator[None]:
        """Time the block, unless it is part of a timed one."""
        if self._within:
            yield
            return
        begin, self._within = time.perf_counter(), True
        try:
            yield
        finally:
            self._within = False
            self.spent[name] += time.perf_counter() - begin

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return the function with timing."""

        def run(*arguments: Any, **named: Any) -> Any:
            with self.running(name):
                return function(*arguments, **named)

        return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--config", type=Path, default=Path("configs/quickstart.yaml"))
    parser.add_argument("--set", action="append", default=[])
    options = parser.parse_args()
    over = [*options.set, f"federation.rounds={options.rounds + 1}"]
    config = load(SimulatedExperiment, options.config, over)
    clock, rounds = Clock(), list[dict[str, float]]()
    for owner, name in CHECKS:
        setattr(owner, name, clock.timed(name, getattr(owner, name)))
    with tempfile.TemporaryDirectory() as folder:
        files = make_sites(config, Path(folder), None, lambda *_: None).files
        introduce(files)
        client.app.signature_of = verified(clock, files)  # type: ignore[attr-defined]
        last = time.perf_counter()

        def listen(event: Event) -> None:
            nonlocal last
            if isinstance(event, RoundDone):
                now = time.perf_counter()
                rounds.append({"whole": now - last, **clock.spent})
                last = now
                clock.spent.clear()

        callbacks = Callbacks(event=listen)
        federate(
            config.experiment(), list(files.values()), Path(folder) / "run", callbacks=callbacks
        )
    shares = [
        round_["whole"] / (round_["whole"] - sum(v for k, v in round_.items() if k != "whole"))
        for round_ in rounds[1:]
    ]
    costs = {
        name: round(1000 * statistics.median(r.get(name, 0.0) for r in rounds[1:]), 2)
        for _, name in CHECKS
    }
    for name, cost in sorted(costs.items(), key=lambda item: -item[1]):
        print(f"{name:20} {cost:8.2f} ms per round")
    last_line(
        {
            "rounds": len(shares),
            "round_s": round(statistics.median(r["whole"] for r in rounds[1:]), 2),
            "ratio": round(statistics.median(shares), 4),
            "largest": round(max(shares), 4),
        }
    )


def verified(clock: Clock, files: dict[str, Path]) -> Callable[..., str]:
    """Return `signature_of` with the coordinator's verification."""
    from client.identity.signature import signature_of

    keys = {
        load_site(path).site: read_public_line(
            (path.parent / "node.pub").read_text(encoding="utf-8").strip()
        )
        for path in files.values()
    }

    def sign_and_verify(site: Any, task: object, answer: str, payload: bytes) -> str:
        signature = signature_of(site, task, answer, payload)
        verify_answer(keys[site.site], Task.decode(task), answer, payload, signature)
        return signature

    return clock.timed("signature_of", sign_and_verify)


if __name__ == "__main__":
    main()
