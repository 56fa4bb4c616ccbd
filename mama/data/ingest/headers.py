"""Headers of a source's files, remembered between ingests so that unchanged files are not read.

    headers.bin   what each file was, encrypted with the site's key, since headers hold identifiers

The file is a cache: without it, or if it is damaged, all headers are read again.
"""

import hmac
import inspect
import json
import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict
from hashlib import sha256, sha512
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV
from pydantic import TypeAdapter

from mama.data.dicom import ages, fields, header, headers, views
from mama.data.dicom.header import Header
from mama.data.dicom.headers import Outcome, read_outcome
from mama.data.dicom.kinds import decide, words
from mama.data.ingest.workers import in_workers
from mama.system.files import write_bytes

HEADERS = "headers.bin"
CHUNK = 64  # files per worker task
# Reasons that another try may not have, without a change of the file.
PASSING = {"read-error", "no-permission"}

_HEADER = TypeAdapter(Header)


class HeaderCache:
    """Reads headers in worker processes, and only those of new and changed files.

    Args:
        file: of the cache.
        key: of the site; None before the first ingest, so that nothing is remembered.
        workers: number of processes.
        progress: called with the number of files done and in total.
    """

    def __init__(
        self,
        file: Path,
        key: bytes | None,
        workers: int = 1,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ):
        self._file, self._workers, self._progress = file, workers, progress
        self._known = _opened(file, key) if key else {}
        self._seen: dict[str, tuple[str, Any]] = {}

    def read(self, paths: list[Path]) -> Iterator[Outcome]:
        """Yield what each file is, in order.

        Raises:
            DataError: a worker process died.
        """
        states = {str(path): state_of(path) for path in paths}
        known = {path for path, state in states.items() if self._known.get(path, ("",))[0] == state}
        changed = [path for path in paths if str(path) not in known]
        fresh = in_workers(
            read_outcome, changed, workers=self._workers, chunk=CHUNK, path_of=lambda path: path
        )
        for done, path in enumerate(paths, start=1):
            name = str(path)
            if name in known:
                stored = self._known[name][1]
                outcome = _HEADER.validate_python(stored) if isinstance(stored, dict) else stored
            else:
                outcome = next(fresh)
            if not (isinstance(outcome, str) and outcome in PASSING):
                self._seen[name] = (states[name], outcome)
            self._progress(done, len(paths))
            yield outcome

    def write(self, key: bytes) -> None:
        """Replace the cache by what was read; files that are gone leave it."""
        lines = {name: (state, _stored(one)) for name, (state, one) in sorted(self._seen.items())}
        packed = zlib.compress(json.dumps(lines).encode(), level=1)
        write_bytes(self._file, _cipher(key).encrypt(packed, [_rules()]), private=True)


def state_of(path: Path) -> str:
    """Return a file's size and time of change, which differ if its contents do."""
    try:
        stat = path.stat()
    except OSError:
        return "gone"
    return f"{stat.st_size} {stat.st_mtime_ns}"


def _stored(outcome: Outcome) -> Any:
    if not isinstance(outcome, Header):
        return outcome
    return asdict(outcome) | {"kinds": sorted(outcome.kinds)}


def _opened(file: Path, key: bytes) -> dict[str, tuple[str, Any]]:
    try:
        packed = _cipher(key).decrypt(file.read_bytes(), [_rules()])
        return {name: tuple(entry) for name, entry in json.loads(zlib.decompress(packed)).items()}
    except (OSError, InvalidTag, ValueError):
        return {}


def _cipher(key: bytes) -> AESSIV:
    """Return a cipher that needs no random numbers: equal headers give an equal file."""
    return AESSIV(hmac.digest(key, b"fedmama headers", sha512))


def _rules() -> bytes:
    """Return a hash of the code that reads headers: other rules may decide otherwise."""
    modules = (ages, decide, fields, header, headers, views, words)
    return sha256("".join(map(inspect.getsource, modules)).encode()).digest()
