"""Ingest of mammograms of 12 million pixels: CPU time over the decoder's own, workers, memory.

    python -m benchmarks.data.ingest [--images 12] [--long-side 518] [--syntaxes rle ...]

For each transfer syntax the files are decoded alone and ingested whole, in turn in one process;
`decoder_share` is the decoder's CPU time over that of the ingest, after all libraries are loaded.
Then one worker process and two ingest the same files: wall time without the start
of the pool is that between the first and the last picture, and is a ratio of this machine's load.
"""

import argparse
import os
import threading
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pydicom
from pydicom.pixels import pixel_array

from benchmarks.common import last_line
from benchmarks.data.films import COMPRESS, draw, write
from mama.data.ingest import cache
from mama.data.ingest.run import ingest

DRAWN = 2  # different pictures; the other files repeat them


def make(folder: Path, syntax: str, images: int) -> list[Path]:
    """Write files of studies of one image each; return their paths."""
    paths = []
    pictures = [draw(seed) for seed in range(DRAWN)]
    for number in range(images):
        path = folder / "dicom" / f"{number}.dcm"
        write(path, pictures[number % DRAWN], f"patient {number}")
        COMPRESS[syntax](path)
        paths.append(path)
    (folder / "reports.csv").write_text("study,report\n", encoding="utf-8")
    return paths


def cpu(work: Any) -> float:
    """Return the CPU seconds of a call in this process."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


def ingest_into(out: Path, source: Path, long_side: int, workers: int = 1, **options: Any) -> None:
    """Ingest a folder of DICOM files with a fixed key."""
    ingest(
        source,
        out,
        adapter="dicom_folder",
        secret=b"benchmark",
        long_side=long_side,
        workers=workers,
        **options,
    )


def share(source: Path, paths: list[Path], long_side: int) -> dict[str, float]:
    """Return CPU seconds an image of decoder and ingest, the least of three turns each."""
    decoder, whole = [], []
    for turn in range(3):
        decoder.append(cpu(lambda: [pixel_array(pydicom.dcmread(path)) for path in paths]))
        out = source / f"out{turn}"
        whole.append(cpu(lambda out=out: ingest_into(out, source, long_side)))
    return {
        "decoder_s": round(min(decoder) / len(paths), 4),
        "ingest_s": round(min(whole) / len(paths), 4),
        "decoder_share": round(min(decoder) / min(whole), 3),
    }


class Watch:
    """Peak memory in MB of each worker process of this one, and when pictures were finished."""

    def __init__(self) -> None:
        self.peaks: dict[str, float] = {}
        self.ends: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Note when a picture is finished."""
        if stage == "images" and done:
            self.ends.append(time.perf_counter())

    def _look(self) -> None:
        while not self._over.wait(0.05):
            for task in Path(f"/proc/{os.getpid()}/task").iterdir():
                for child in (task / "children").read_text().split():
                    try:
                        status = Path(f"/proc/{child}/status").read_text(encoding="utf-8")
                    except OSError:
                        continue
                    lines = dict(line.split(":", 1) for line in status.splitlines())
                    if "VmHWM" in lines:
                        self.peaks[child] = int(lines["VmHWM"].split()[0]) / 1000

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def by_workers(source: Path, long_side: int) -> dict[str, float]:
    """Return seconds of one and of two workers, and the largest peak of one worker."""
    seconds, peak = {}, 0.0
    for workers in (1, 2):
        cache.CHUNK = 1
        with Watch() as watch:
            ingest_into(
                source / f"by{workers}", source, long_side, workers, progress=watch.progress
            )
        peak = max([peak, *watch.peaks.values()])
        # The first picture of each worker includes the start of its process.
        rest = watch.ends[workers:]
        seconds[workers] = (rest[-1] - watch.ends[workers - 1]) / len(rest)
    return {
        "one_worker_s": round(seconds[1], 3),
        "two_workers_s": round(seconds[2], 3),
        "speed_up": round(seconds[1] / seconds[2], 2),
        "peak_mb_a_worker": round(peak),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=12)
    parser.add_argument("--long-side", type=int, default=518)
    parser.add_argument("--syntaxes", nargs="+", choices=list(COMPRESS), default=list(COMPRESS))
    options = parser.parse_args()
    result: dict[str, Any] = {}
    for syntax in options.syntaxes:
        with TemporaryDirectory() as name:
            source = Path(name)
            paths = make(source, syntax, options.images)
            result[syntax] = share(source, paths, options.long_side)
            result[syntax] |= by_workers(source, options.long_side)
            print(syntax, result[syntax], flush=True)
    last_line(result)


if __name__ == "__main__":
    main()
