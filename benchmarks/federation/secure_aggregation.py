"""Cost of secure aggregation for a site and the coordinator, per million values.

Five sites, threshold 3, 20 bits, all in one process and one thread; one site drops out after it has
sent its shares. CPU seconds of every wave, without the network.

    python -m benchmarks.federation.secure_aggregation [--values 2e6 2e7]

Last line: JSON by number of values, in CPU seconds per million values, and the error in
quantisation steps.
"""

import argparse
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.common import last_line
from client.identity.peers import Peers
from client.secagg.participant import Participant
from client.site.config import PeersConfig
from mama.exchange.secagg.messages import Basis, Terms
from mama.exchange.secagg.quantise import step
from mama.exchange.signing import new_key
from server.secagg.secure_sum import SecureSum

BASIS = Basis(experiment="e" * 64, model="f" * 64, run="benchmark", round=1)
OWN = PeersConfig()
SITES, TERMS = 5, Terms(context="benchmark/1", threshold=3, bits=20, limit=0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--values", type=float, nargs="+", default=[2e6, 2e7])
    torch.set_num_threads(1)
    last_line({f"{size:.0e}": measured(int(size)) for size in parser.parse_args().values})


def measured(size: int) -> dict[str, Any]:
    seconds: dict[str, float] = {}

    @contextmanager
    def counted(name: str, share: int = 1) -> Iterator[None]:
        begin = time.process_time()
        yield
        spent = (time.process_time() - begin) / share / (size / 1e6)
        seconds[name] = seconds.get(name, 0.0) + spent

    names = [f"site{n}" for n in range(SITES)]
    keys = {name: new_key() for name in names}
    peers = {name: key.public_key() for name, key in keys.items()}
    random = np.random.default_rng(0)
    exact = np.zeros(size)
    with tempfile.TemporaryDirectory() as folder:
        summed = SecureSum(TERMS, BASIS, {"w": (size,)}, dict.fromkeys(names, 1.0))
        parties = {
            name: Participant(Path(folder) / name, name, Peers(keys[name], peers, OWN))
            for name in names
        }
        for name, party in parties.items():
            with counted("site", SITES):
                advertisement = party.advertise(1.0, TERMS, BASIS)
            summed.join(name, advertisement)
        advertisements = summed.advertisements()
        for name, party in parties.items():
            with counted("site", SITES):
                packets = party.share(advertisements)
            summed.take_packets(name, packets)
        for name, party in parties.items():
            update = (0.1 * random.standard_normal(size)).astype(np.float32)
            exact += np.clip(update, -TERMS.limit, TERMS.limit) if name != names[-1] else 0
            with counted("site", SITES):
                vector = party.masked(summed.packets_for(name), {"w": update})
            if name != names[-1]:
                with counted("coordinator"):
                    summed.fold(name, vector)
        roll = summed.roll()
        for name in roll.survivors:
            summed.take_consent(name, parties[name].agree(roll))
        consents = summed.consents()
        for name in roll.survivors:
            summed.take_shares(name, parties[name].unmask(consents))
        with counted("coordinator"):
            mean = summed.result()["w"]
    error = float(np.abs(mean - exact / (SITES - 1)).max()) / step(TERMS.limit, TERMS.bits)
    figures = {**{k: round(v, 4) for k, v in seconds.items()}, "error_steps": round(error, 3)}
    print(f"{size:>12,} values: {figures}, {len(vector) / size:.2f} bytes per value")
    return figures | {"bytes_a_value": len(vector) / size}


if __name__ == "__main__":
    main()
