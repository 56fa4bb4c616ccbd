"""Overhead of a round with every site as a real process, and recovery time after kills.

    python -m benchmarks.federation.deployment_overhead [--rounds 20] [--kills] [--work DIR]

Three small hospitals on loopback with TLS and keys, two phases per round (train, evaluate), one
thread per process. `fixed_s_deployment` is the median time between the ends of two rounds minus the
slowest site's training; it includes the work of the evaluation, a fraction of a second.
`fixed_s_train` is the same for the training phase alone. With --kills, `recovery_s` is, by process,
the time from its kill -9 to the end of the first later round with all sites.
"""

import argparse
import os
import signal
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks.common import last_line
from mama.config.load import load
from mama.exchange.fingerprint import describe
from mama.exchange.tensors import trained_arrays
from mama.model import build_model
from mama.system.supervise import children
from server.run.events import RoundDone
from server.run.folder import RunFolder
from server.service.follow import follow, submit
from sim.config import SimulatedExperiment
from sim.engines.deployment import LocalDeployment
from sim.sites import make_sites

SMALL = [
    "simulation.train_studies=8",
    "simulation.test_studies=8",
    "image.options={patch_size: 4, embed_dim: 32, depth: 1, num_heads: 2}",
    "text.layers=1",
    "heads={embedding: 32, view_hidden: 32, local_hidden: 32}",
    "optimiser.batch_size=4",
]
VICTIMS = ("alder/guard", "alder/node", "superlink", "executor", "serverapp")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--kills", action="store_true")
    parser.add_argument("--work", type=Path, default=None)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedmama-") as work:
        last_line(measured(options.work or Path(work), options.rounds, kills=options.kills))


def measured(work: Path, rounds: int, *, kills: bool = False) -> dict[str, Any]:
    """Return the metrics by name; all files are created in `work`."""
    config = load(SimulatedExperiment, Path("configs/quickstart.yaml"), SMALL)
    box = LocalDeployment(work / "box")
    for path in make_sites(config, work, None, lambda *_: None).files.values():
        path.write_text(path.read_text(encoding="utf-8") + "threads: 1\n", encoding="utf-8")
        box.join(path)
    with box.running():
        phases = f"federation={{rounds: {rounds}, local_steps: 2, evaluate_every: 1}}"
        done = run(box, work / "run", phases)
        ends = [event.time or 0.0 for event in done]
        whole = [
            end - begin - event.train_s
            for begin, end, event in zip(ends, ends[1:], done[1:], strict=False)
        ]
        training = [event.seconds - event.train_s for event in done]
        result: dict[str, Any] = {
            "fixed_s_deployment": round(statistics.median(whole), 2),
            "fixed_s_train": round(statistics.median(training), 2),
            "rounds": len(done),
        }
        if kills:
            result["recovery_s"] = {victim: recovery(box, work, victim) for victim in VICTIMS}
    return result


def run(box: LocalDeployment, out: Path, federation: str) -> list[RoundDone]:
    """Do one run in the box; returns its rounds."""
    folder = start(out, federation)
    follow(box.home, submit(box.home, out), lambda event: None)
    return rounds_of(folder)


def start(out: Path, federation: str) -> RunFolder:
    """Return the folder of a new run."""
    config = load(SimulatedExperiment, Path("configs/quickstart.yaml"), [*SMALL, federation])
    model = build_model(config)
    return RunFolder.create(out, config.experiment(), trained_arrays(model), describe(model))


def recovery(box: LocalDeployment, work: Path, victim: str) -> float:
    """Return the seconds from a kill during a run to the next round with all sites."""
    out = work / f"run-{victim.replace('/', '-')}"
    folder = start(out, "federation={rounds: 60, local_steps: 2}", "participation.quorum=2")
    job = submit(box.home, out)
    wait(lambda: rounds_of(folder))
    # Half a second into a round, not between two rounds.
    time.sleep(0.5)
    killed = time.time()
    kill(box, victim)
    back = wait(
        lambda: [
            one
            for one in rounds_of(folder)
            if (one.time or 0.0) - one.seconds > killed and len(one.sites) == 3
        ]
    )
    job.ask_to_stop()
    wait(lambda: (found := job.read()) is not None and found.state != "running")
    return round((back[0].time or 0.0) - killed, 1)


def rounds_of(folder: RunFolder) -> list[RoundDone]:
    """Return the rounds so far."""
    return [event for event in folder.events() if isinstance(event, RoundDone)]


def kill(box: LocalDeployment, victim: str) -> None:
    """Kill a process with SIGKILL."""
    if victim != "serverapp":
        os.kill(box.processes()[victim], signal.SIGKILL)
        return
    for process in children(box.processes()["executor"]):
        os.kill(process, signal.SIGKILL)


def wait(condition):  # type: ignore[no-untyped-def]
    """Wait up to ten minutes for a condition and return its value."""
    end = time.monotonic() + 600
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    main()
