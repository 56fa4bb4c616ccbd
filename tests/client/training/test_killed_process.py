"""Site process killed from outside in the middle of a round, repeatedly, and restarted."""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mama.exchange.protocol import Answer, Task

STEPS = 12
# The ClientApp on a node of this site; it says each step that is done, and writes what it answers.
PROCESS = """
import sys
from pathlib import Path
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, MessageType, RecordDict
from client.app import make_app
from sim.engines.inprocess import InProcessGrid

site, header, payload, out = map(Path, sys.argv[1:])
grid = InProcessGrid(make_app(lambda name, step: print(step, flush=True)), [site])
block = Array("uint8", (payload.stat().st_size,), "safetensors", payload.read_bytes())
content = RecordDict({
    "header": ConfigRecord({"json": header.read_text()}),
    "payload": ArrayRecord({"tensors": block}),
})
(name,) = grid.push_messages([Message(content, 1, MessageType.TRAIN)])
(reply,) = grid.pull_messages([name])
out.with_suffix(".json").write_text(reply.content.config_records["header"]["json"])
out.write_bytes(reply.content.array_records["payload"]["tensors"].data)
"""


@pytest.mark.slow
def test_killed_from_outside_it_ends_with_the_same_update(
    edit: Callable[..., Path],
    make_task: Callable[..., Task],
    small_config: Callable[..., Any],
    payload: bytes,
    tmp_path: Path,
) -> None:
    experiment = small_config(f"federation.local_steps={STEPS}", "exchange.up=int8").experiment()
    site = edit(checkpoint_s=0)
    header, tensors, out = (tmp_path / name for name in ("header", "payload", "update"))
    header.write_text(make_task(of=experiment).encode())
    tensors.write_bytes(payload)

    def run(kill_after: int | None) -> tuple[int, list[int]]:
        words = [sys.executable, "-c", PROCESS, *map(str, (site, header, tensors, out))]
        process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert process.stdout
        steps = []
        for line in process.stdout:
            steps.append(int(line))
            if len(steps) == kill_after:
                process.kill()
        return process.wait(), steps

    assert run(None) == (0, list(range(STEPS)))
    straight, reply = out.read_bytes(), Answer.decode(out.with_suffix(".json").read_text())
    assert reply.training is not None
    out.unlink()
    shutil.rmtree(site.parent / "state")

    first = 0
    for kill_after in (1, 2, 2, None):
        code, steps = run(kill_after)
        assert code == (0 if kill_after is None else -signal.SIGKILL)
        # Of the last step said before the kill, the steps on the disk may be one behind.
        assert steps[0] in (first, max(0, first - 1))
        assert steps == list(range(steps[0], steps[-1] + 1))
        first = steps[-1] + 1
    assert out.read_bytes() == straight
    again = Answer.decode(out.with_suffix(".json").read_text())
    assert again.training is not None
    assert again.training.terms == reply.training.terms
    assert again.training.steps == STEPS
