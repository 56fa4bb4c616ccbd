"""Start and end a process of a site's app, with and without garbage collection while it imports.

python -m benchmarks.federation.process_start
"""

import resource
import statistics
import subprocess
import sys

PLAIN = "import client.handlers, client.identity.signature, client.app"
PAUSED = "import client.app"
REPEATS = 7


def cpu_seconds(code: str) -> float:
    """Return the CPU time of a Python process that runs `code`."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", code], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime) - (before.ru_utime + before.ru_stime)


def main() -> None:
    """Print both medians and their ratio; the two kinds of process alternate."""
    cpu_seconds(PAUSED)  # fills the disk's cache
    pairs = [(cpu_seconds(PLAIN), cpu_seconds(PAUSED)) for _ in range(REPEATS)]
    plain, paused = (statistics.median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(b / a for a, b in pairs)
    print(f"plain imports       {plain:5.1f} CPU-s")
    print(f"collection paused   {paused:5.1f} CPU-s")
    print(f"ratio {paused / plain:.2f}, of single pairs {ratios[0]:.2f} to {ratios[-1]:.2f}")


if __name__ == "__main__":
    main()
