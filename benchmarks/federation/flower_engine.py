"""Duration of a round with eight sites and updates of 86M values on Flower's simulation engine.

    python -m benchmarks.federation.flower_engine [--sites 8] [--rounds 2] [--tower NAME]

The server's own loop runs in the process that also contains Flower's state of all messages; sites
in two or more Ray workers do no work and answer with random values, as in many_sites.py.
`peak_over_model` is the process's peak resident memory above its size after imports, over the
model's bytes; workers and Ray's store are not included.
"""

import argparse
import os
import statistics
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp

from benchmarks.common import last_line
from benchmarks.federation.many_sites import (
    BASE,
    MeasuredError,
    an_experiment,
    answer,
    listen,
    tower_shapes,
)
from benchmarks.method.memory import growth, resident
from server.flower.one_copy import stay_lean
from server.round.run import FederatedRun
from server.run.context import RunContext
from server.run.events import RoundDone, SitesKnown
from server.run.folder import RunFolder
from sim.engines.flower import processors, run_flower


class RandomSite(ClientApp):
    """Site that answers any task at once."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Answer with random values that differ between sites."""
        return answer(message, np.random.default_rng(context.node_id))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tower", default="vit_base_patch14_reg4_dinov2")
    options = parser.parse_args()
    # For the workers, which start in another directory.
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parents[2])
    with tempfile.TemporaryDirectory() as work:
        out = Path(work) / "run"
        random = np.random.default_rng(0)
        arrays = {
            name: random.standard_normal(shape, np.float32) * np.float32(0.02)
            for name, shape in tower_shapes(options.tower).items()
        }
        RunFolder.create(out, an_experiment(options.rounds, "sgd"), arrays, BASE)
        size = sum(array.nbytes for array in arrays.values())
        del arrays
        stay_lean()
        idle = resident()
        above = growth(
            lambda: run_flower(server_app(out, options.sites), RandomSite(), options.sites, {})
        )
        events = RunFolder(out).events()
    ends = [event for event in events if isinstance(event, SitesKnown | RoundDone)]
    times = [event.time or 0.0 for event in ends]
    assert [len(event.sites) for event in ends[1:]] == [options.sites] * options.rounds
    last_line(
        {
            "sites": options.sites,
            "rounds": options.rounds,
            "model_mb": round(size / 1e6),
            "idle_mb": round(idle * 2**20 / 1e6),
            "peak_over_model": round(above * 2**20 / size, 2),
            "round_s": round(
                statistics.median(after - before for before, after in pairwise(times)), 1
            ),
        }
    )


def server_app(out: Path, sites: int) -> ServerApp:
    """Return an app that runs the federation's loop up to the last checkpoint."""
    app = ServerApp()

    @app.main()
    def run(grid: Grid, context: Context) -> None:
        with suppress(MeasuredError):
            FederatedRun(
                grid, RunContext(RunFolder(out), listen, expected=sites, slots=processors())
            ).run()

    return app


if __name__ == "__main__":
    main()
