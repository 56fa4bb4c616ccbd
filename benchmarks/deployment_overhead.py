"""What a round costs beyond training when every site is a real process, and how long each process's death holds up.

    python benchmarks/deployment_overhead.py [--rounds 20] [--kills] [--work DIR]

Three small hospitals on loopback with TLS and keys, two phases a round (train, evaluate), one thread a process.
`fixed_s_deployment` is the median time from one round's end to the next less the slowest site's training; the
evaluation's own work, a fraction of a second, is in it. `fixed_s_train` is the same of the training phase alone.
With --kills `recovery_s` has, by process, the seconds from its kill -9 to the end of the first round after the kill in
which all sites took part.
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

from common import last_line

from mama.configfile import load
from mama.exchange.fingerprint import describe
from mama.exchange.tensors import trained_arrays
from mama.model import build_model
from mama.supervise import children
from server.folder import Event, RunFolder
from server.follow import follow, submit
from sim.config import SimulatedExperiment
from sim.deployment import Box
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
    """The figures by name; everything is made in `work`."""
    config = load(SimulatedExperiment, Path("configs/quickstart.yaml"), SMALL)
    box = Box(work / "box")
    for path, _ in make_sites(config, work, None, lambda *_: None).values():
        path.write_text(path.read_text(encoding="utf-8") + "threads: 1\n", encoding="utf-8")
        box.join(path)
    with box.running():
        phases = f"federation={{rounds: {rounds}, local_steps: 2, evaluate_every: 1}}"
        done = [e for e in run(box, work / "run", phases) if e["event"] == "round"]
        ends = [event["time"] for event in done]
        whole = [
            end - begin - event["train_s"]
            for begin, end, event in zip(ends, ends[1:], done[1:], strict=False)
        ]
        training = [event["seconds"] - event["train_s"] for event in done]
        result: dict[str, Any] = {
            "fixed_s_deployment": round(statistics.median(whole), 2),
            "fixed_s_train": round(statistics.median(training), 2),
            "rounds": len(done),
        }
        if kills:
            result["recovery_s"] = {victim: recovery(box, work, victim) for victim in VICTIMS}
    return result


def run(box: Box, out: Path, federation: str) -> list[Event]:
    """One run of the box; returns its events."""
    folder = start(out, federation)
    follow(box.home, submit(box.home, out), lambda event: None)
    return folder.events()


def start(out: Path, federation: str) -> RunFolder:
    """The folder of a new run."""
    config = load(SimulatedExperiment, Path("configs/quickstart.yaml"), [*SMALL, federation])
    model = build_model(config)
    return RunFolder.create(out, config.experiment(), trained_arrays(model), describe(model))


def recovery(box: Box, work: Path, victim: str) -> float:
    """Seconds from a kill in mid-run to the next round with all sites."""
    out = work / f"run-{victim.replace('/', '-')}"
    folder = start(out, "federation={rounds: 60, local_steps: 2, quorum: 2}")
    job = submit(box.home, out)
    wait(lambda: rounds_of(folder))
    # Not at the boundary of two rounds: half a second into one.
    time.sleep(0.5)
    killed = time.time()
    kill(box, victim)
    back = wait(lambda: [e for e in rounds_of(folder) if e["begun"] > killed and e["whole"]])
    job.ask_to_stop()
    wait(lambda: (found := job.read()) is not None and found.state != "running")
    return round(back[0]["time"] - killed, 1)


def rounds_of(folder: RunFolder) -> list[Event]:
    """The rounds so far, with when each began and whether all sites took part."""
    return [
        event | {"begun": event["time"] - event["seconds"], "whole": len(event["sites"]) == 3}
        for event in folder.events()
        if event["event"] == "round"
    ]


def kill(box: Box, victim: str) -> None:
    """kill -9 one process."""
    if victim != "serverapp":
        os.kill(box.processes()[victim], signal.SIGKILL)
        return
    for process in children(box.processes()["executor"]):
        os.kill(process, signal.SIGKILL)


def wait(condition):  # type: ignore[no-untyped-def]
    """Wait up to ten minutes for a condition; returns what it says."""
    end = time.monotonic() + 600
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.1)
    return found


if __name__ == "__main__":
    main()
