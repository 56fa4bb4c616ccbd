"""Worker processes of an ingest, which read files."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

from mama.errors import DataError
from mama.system.logs import printable
from mama.system.processes import worker_pool

Job = TypeVar("Job")
Result = TypeVar("Result")


def in_workers(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    *,
    workers: int,
    chunk: int,
    path_of: Callable[[Job], Path],
) -> Iterator[Result]:
    """Yield the result of each job in order; few jobs are done in this process.

    Args:
        function: an importable function.
        jobs: its arguments, which can be pickled.
        workers: number of processes.
        chunk: jobs that a process takes at once.
        path_of: the file that a job reads, for the error.

    Raises:
        DataError: a worker process died.
    """
    if workers <= 1 or len(jobs) <= chunk:
        yield from map(function, jobs)
        return
    done = 0
    with worker_pool(workers) as pool:
        try:
            for result in pool.map(function, jobs, chunksize=chunk):
                yield result
                done += 1
        except BrokenProcessPool:
            raise DataError(
                "a worker process died while reading this file "
                f"or one of the next {chunk * workers}",
                where=printable(path_of(jobs[done]).name),
                fix="Free some memory and run the command again; it resumes where it stopped. "
                "If it stops here again, remove the damaged file",
            ) from None
