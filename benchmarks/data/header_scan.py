"""Scan of many small DICOM files: the first, and one that finds nothing new.

    python -m benchmarks.data.header_scan [--files 10000]

Both scans walk the folder, decide for each file what it is and write the cache of headers, as
ingest does, in one process. `second_over_first` is the ratio of their CPU times.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.common import last_line
from benchmarks.data.films import write
from mama.data.dicom.scan import scan
from mama.data.ingest.headers import HEADERS, HeaderCache

KEY = b"benchmark"
A_STUDY = 4  # files


def make(folder: Path, files: int) -> None:
    """Write small mammograms that differ in their identifiers."""
    pixels = np.zeros((16, 12), np.uint16)
    for number in range(files):
        study = number // A_STUDY
        write(folder / f"{study:06d}" / f"IM{number % A_STUDY}", pixels, f"patient {study}")


def scan_once(source: Path, cache: Path) -> tuple[float, int]:
    """Return the CPU seconds of a scan of the folder, and the number of mammograms found."""
    begin = time.process_time()
    headers = HeaderCache(cache / HEADERS, KEY)
    found = scan(source, headers.read).found
    headers.write(KEY)
    return time.process_time() - begin, len(found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    options = parser.parse_args()
    with TemporaryDirectory() as name:
        source, cache = Path(name, "source"), Path(name, "cache")
        cache.mkdir()
        make(source, options.files)
        first, found = scan_once(source, cache)
        second = min(scan_once(source, cache)[0] for _ in range(3))
    result: dict[str, Any] = {
        "files": options.files,
        "found": found,
        "first_ms_a_file": round(1000 * first / options.files, 4),
        "second_ms_a_file": round(1000 * second / options.files, 4),
        "second_over_first": round(second / first, 3),
    }
    last_line(result)


if __name__ == "__main__":
    main()
