"""One command for a machine with a GPU: tests, agreement with the CPU, and figures.

    python benchmarks/gpu/check.py [--quick] [--only PART ...]

Runs every test of mama/, then each benchmark of this folder, one process after the other, at most
eight minutes in all, and prints one JSON object as its last line. A part that fails or takes too
long is reported there, and the others still run. `--quick` takes small models, for a machine
without a GPU. No network is used: see wheels.py for what a bare machine needs.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[0] = str(ROOT)  # for `python benchmarks/gpu/check.py`

# Parts in order, with their time limits in seconds.
PARTS = {
    "tests": 170,
    "agreement": 40,
    "step": 170,
    "local": 20,
    "input": 60,
    "noise": 20,
    "private": 40,
}
VERSIONS = ("torch", "timm", "transformers", "peft", "numpy", "opacus")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small models")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    options = parser.parse_args()
    result = {"date": str(date.today()), **machine()}
    for part in options.only:
        begin = time.monotonic()
        # Small models on a slow CPU may take longer than the paper's on a GPU.
        limit = 10 * PARTS[part] if options.quick else PARTS[part]
        found = tests(limit, options.quick) if part == "tests" else figures(part, limit, options)
        result[part] = found | {"took_s": round(time.monotonic() - begin)}
        print(part, json.dumps(result[part]), flush=True)
    print(json.dumps(result))
    sys.exit(any("failed" in result[part] for part in options.only))


def machine() -> dict[str, Any]:
    """Describe the machine."""
    import torch

    found: dict[str, Any] = {"versions": {name: version(name) for name in VERSIONS}}
    found |= {"python": sys.version.split()[0], "cores": len(os.sched_getaffinity(0)), "gpu": None}
    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(0)
        found["gpu"] = {
            "name": card.name,
            "gib": round(card.total_memory / 2**30),
            "compute_capability": f"{card.major}.{card.minor}",
            "cuda": torch.version.cuda,
        }
    return found


def tests(limit: float, quick: bool) -> dict[str, Any]:
    """Run the tests of mama/ and return their numbers and the names of those that failed."""
    where = ["tests/mama/losses", "tests/mama/towers"] if quick else ["tests/mama"]
    spread = ["-n", str(min(16, len(os.sched_getaffinity(0))))]
    command = [sys.executable, "-m", "pytest", *where, "-m", "not slow", "--tb=line", "-rfE"]
    ended = run([*command, *spread, "-p", "no:cacheprovider"], limit)
    lines = ended.stdout.splitlines()
    summary = next((line for line in reversed(lines) if " passed" in line or " error" in line), "")
    found: dict[str, Any] = {"summary": summary.strip("= ")}
    if ended.returncode:
        bad = [line for line in lines if line.startswith(("FAILED", "ERROR "))]
        found["failed"] = bad or (lines + ended.stderr.splitlines())[-5:]
    return found


def figures(part: str, limit: float, options: argparse.Namespace) -> dict[str, Any]:
    """Run one benchmark and return the JSON object of its last line."""
    quick = ["--quick"] if options.quick and part != "agreement" else []
    ended = run([sys.executable, "-m", f"benchmarks.gpu.{part}", *quick], limit)
    try:
        found: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"failed": ended.stderr.splitlines()[-5:], "output": ended.stdout.splitlines()[-8:]}
    found.pop("hardware", None)
    if found.get("failures"):
        found["failed"] = found.pop("failures")
    return found


def run(command: list[str], limit: float) -> subprocess.CompletedProcess[str]:
    """Run a command in the repository; its process group is killed at the limit."""
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        start_new_session=True,
    ) as child:
        try:
            out, error = child.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, 9)
            out, error = child.communicate()
            error += f"\nstopped after {limit:.0f} s"
    return subprocess.CompletedProcess(command, child.returncode, out, error)


if __name__ == "__main__":
    main()
