"""Share of a round that is not work at the sites.

    python -m benchmarks.federation.round_overhead [--rounds 20] [--work DIR]
        [--engines inprocess flower deployment]

The quickstart on each engine, with more rounds and no evaluation between them. A round is the time
between two round events: checkpoint, sampling, training, exchange, checks, folding and step. Its
overhead is the time beyond the minimum that the sites need for training, by their own measurement:
the sum of their seconds if they take turns; on Flower's engine the larger of their sum over the
CPUs and the longest. Median over all rounds but the first. `deployment`, in seconds per round, is
that of deployment_overhead.py: small hospitals in real processes.
"""

import argparse
import json
import statistics
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.common import last_line
from benchmarks.federation import deployment_overhead

ENGINES = ("inprocess", "flower")
CONFIG = "configs/quickstart.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--work", type=Path, default=Path("runs/round_overhead"))
    parser.add_argument("--engines", nargs="+", default=[*ENGINES, "deployment"])
    options = parser.parse_args()
    result: dict[str, Any] = {"rounds": options.rounds}
    for engine in [engine for engine in ENGINES if engine in options.engines]:
        out = options.work / engine
        if not (out / "metrics.json").exists():
            run(engine, out, options.rounds + 1)
        rounds = completed(out)
        assert len(rounds) == options.rounds
        shares = [1 - event["train_s"] / event["whole_s"] for event in rounds]
        result[f"overhead_{engine}"] = round(statistics.median(shares), 4)
        result[f"round_s_{engine}"] = round(statistics.median(e["whole_s"] for e in rounds), 2)
    if "deployment" in options.engines:
        result |= deployment_overhead.measured(options.work / "deployment", options.rounds)
    last_line(result)


def run(engine: str, out: Path, rounds: int) -> None:
    arguments = ["run", CONFIG, "--engine", engine, "--out", str(out), "--quiet"]
    arguments += ["--set", f"federation.rounds={rounds}", "--set", "federation.evaluate_every=0"]
    program = [sys.executable, "-c", "from sim.cli import main; main()", *arguments]
    subprocess.run(program, check=True)


def completed(out: Path) -> list[dict[str, Any]]:
    """Return the rounds but the first, with `whole_s` since the previous round event."""
    events = [
        json.loads(line) for line in (out / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
    ]
    rounds = [event for event in events if event["event"] == "round"]
    return [
        event | {"whole_s": event["time"] - before["time"]} for before, event in pairwise(rounds)
    ]


if __name__ == "__main__":
    main()
