"""What does a round of eight sites with updates of 86M values take on Flower's own simulation engine?

    python benchmarks/flower_engine.py [--sites 8] [--rounds 2] [--tower vit_base_patch14_reg4_dinov2]

The server's own loop in the process that also holds Flower's state of all messages; sites in Ray's two or more workers
do no work but answer with random values, as in benchmarks/many_sites.py. `peak_over_model`: the process's peak
resident memory above what it was after its imports, over the model's bytes; workers and Ray's store are not in it.
"""

import argparse
import json
import os
import statistics
import tempfile
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
from common import last_line
from flwr.app import Context, Message
from flwr.clientapp import ClientApp
from flwr.serverapp import Grid, ServerApp
from many_sites import BASE, MeasuredError, an_experiment, answer, listen, tower_shapes
from memory import growth, resident

from server.folder import RunFolder
from server.lean import stay_lean
from server.rounds import Federation
from sim.flower import processors, run_flower


class RandomSite(ClientApp):
    """Answers any task at once."""

    def __call__(self, message: Message, context: Context) -> Message:
        """Chance decides the values; every site has its own."""
        return answer(message, np.random.default_rng(context.node_id))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sites", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tower", default="vit_base_patch14_reg4_dinov2")
    options = parser.parse_args()
    # For the workers, which start in another folder.
    os.environ["PYTHONPATH"] = str(Path(__file__).resolve().parent)
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
        events = [
            json.loads(line)
            for line in (out / "rounds.jsonl").read_text(encoding="utf-8").splitlines()
        ]
    told = [event for event in events if event["event"] in ("roster", "round")]
    rounds = told[1:]
    assert [len(event["sites"]) for event in rounds] == [options.sites] * options.rounds
    last_line(
        {
            "sites": options.sites,
            "rounds": options.rounds,
            "model_mb": round(size / 1e6),
            "idle_mb": round(idle * 2**20 / 1e6),
            "peak_over_model": round(above * 2**20 / size, 2),
            "round_s": round(
                statistics.median(b["time"] - a["time"] for a, b in pairwise(told)), 1
            ),
        }
    )


def server_app(out: Path, sites: int) -> ServerApp:
    """The federation's loop up to the last checkpoint."""
    app = ServerApp()

    @app.main()
    def run(grid: Grid, context: Context) -> None:
        with suppress(MeasuredError):
            Federation(grid, RunFolder(out), listen, expected=sites, at_once=processors()).run()

    return app


if __name__ == "__main__":
    main()
