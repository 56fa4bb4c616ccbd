"""Comparison of engines: the quickstart's first rounds in one process and on Flower's engine.

    python -m benchmarks.federation.engines [--rounds 4] [--work DIR]

Each runs in a separate process on the same ingested sites; wall seconds include the engine's start.
The last line has `inprocess_s`, `flower_s`, `ratio` = flower / inprocess, and the largest process
of each in MiB.
"""

import argparse
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.common import last_line

CONFIG = "configs/quickstart.yaml"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--work", type=Path, default=Path("runs/engines"))
    options = parser.parse_args()
    result: dict[str, float] = {}
    for engine in ("inprocess", "flower"):
        out = options.work / engine
        run(engine, out, 1)  # creates the hospitals, so that this is not timed
        begin = time.monotonic()
        run(engine, options.work / f"{engine}-timed", options.rounds, sites=out)
        result[f"{engine}_s"] = round(time.monotonic() - begin, 1)
        largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        result[f"{engine}_largest_mib"] = largest // 1024
    result["ratio"] = round(result["flower_s"] / result["inprocess_s"], 2)
    last_line(result)


def run(engine: str, out: Path, rounds: int, sites: Path | None = None) -> None:
    """Run a simulation in a separate process, with `sites` on the hospitals of that run."""
    code = (
        "import sys; from pathlib import Path; from mama.config.load import load;"
        "from sim.config import SimulatedExperiment; from sim.run import federate, simulate;"
        "c = load(SimulatedExperiment, Path(sys.argv[1]), ['federation.rounds=' + sys.argv[3]]);"
        "out, sites = Path(sys.argv[2]), sys.argv[5];"
        "files = sorted(Path(sites).glob('sites/*/site.yaml'));"
        "federate(c.experiment(), files, out, engine=sys.argv[4]) if sites else"
        " simulate(c, out, engine=sys.argv[4])"
    )
    arguments = [CONFIG, str(out), str(rounds), engine, str(sites or "")]
    subprocess.run([sys.executable, "-c", code, *arguments], check=True)


if __name__ == "__main__":
    main()
