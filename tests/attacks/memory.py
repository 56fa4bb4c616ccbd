"""The attacker's measure of a memory bomb: how much a process of its own grows by."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MIB = 2**20


def resident(key: str) -> int:
    """Bytes by /proc: VmRSS is now, VmHWM the peak since `forget_peak`."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def forget_peak() -> int:
    """Let the peak begin anew; bytes that are resident now."""
    Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def in_a_process(module: str, *arguments: str) -> list:
    """The JSON that a test module prints when it is run as a program with these arguments."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])
