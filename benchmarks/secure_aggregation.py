"""What secure aggregation costs a site and the coordinator, per million values.

Five sites, threshold 3, 20 bits, all in one process and one thread; one site is lost after it has sent its shares.
Processor seconds of every wave but the network's.

    python benchmarks/secure_aggregation.py [--values 2e6 2e7]

Last line: JSON by number of values, in processor seconds per million values, and the error in steps of quantisation.
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
from common import last_line

from client.peers import Peers
from client.secagg import Participant
from client.sitefile import PeersConfig
from mama.secagg.messages import Basis, Terms
from mama.secagg.quantise import step
from mama.signing import new_key
from server.secagg import SecureSum

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
                said = party.advertise(1.0, TERMS, BASIS)
            summed.join(name, said)
        asked = summed.advertisements()
        for name, party in parties.items():
            with counted("site", SITES):
                packets = party.share(asked)
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
        told = summed.consents()
        for name in roll.survivors:
            summed.take_shares(name, parties[name].unmask(told))
        with counted("coordinator"):
            mean = summed.result()["w"]
    error = float(np.abs(mean - exact / (SITES - 1)).max()) / step(TERMS.limit, TERMS.bits)
    figures = {**{k: round(v, 4) for k, v in seconds.items()}, "error_steps": round(error, 3)}
    print(f"{size:>12,} values: {figures}, {len(vector) / size:.2f} bytes a value")
    return figures | {"bytes_a_value": len(vector) / size}


if __name__ == "__main__":
    main()
