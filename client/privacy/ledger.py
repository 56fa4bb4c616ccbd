"""Ledger of a site's private steps: an append-only file whose lines form a hash chain.

    <sha256 of the previous seal and this line's JSON>, a space, JSON

A step is charged before it runs: its line is on the disk (fsync) when `reserve` returns. The step
of a line that a crash tore never ran; it is charged nevertheless, with the next step. Any change to
the file breaks the seals; truncation is detected by comparison with an earlier seal kept elsewhere.
"""

import fcntl
import hashlib
import os
import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from client.site.config import BudgetConfig
from mama.config.base import Section
from mama.errors import BudgetError, PrivacyError
from mama.privacy.accounting import Charge, rdp_epsilon
from mama.system.files import private_folder, sync_folder

SEAL = 64
EMPTY = "0" * SEAL


class Entry(Section):
    """One line of the ledger: `steps` charged at (z, q), and the total epsilon after them.

    All but one of the steps belong to torn lines before this one. Seals leave the site; the random
    `nonce` prevents them from revealing anything about `dataset`.
    """

    run: str
    round: int = Field(ge=0)
    step: int = Field(ge=0)
    z: float = Field(gt=0)
    q: float = Field(gt=0, le=1)
    steps: int = Field(ge=1)
    dataset: str
    adjacency: Literal["zero-out"] = "zero-out"
    epsilon: float
    delta: float
    nonce: str


class SiteLedger:
    """Ledger of one roster of patients, opened for one round of one run.

    Several processes may use the file at once. There is no defence against a malicious
    administrator of the site, who can replace both the file and the kept seals.

    Args:
        path: the ledger's file.
        budget: the patients' budget.
        run: the run whose steps are charged.
        number: the round whose steps are charged.
        dataset: fingerprint of the ingested dataset, recorded only.

    Raises:
        PrivacyError: the file was changed, or cannot be read.
    """

    def __init__(
        self, path: Path, budget: BudgetConfig, run: str = "", number: int = 0, dataset: str = ""
    ):
        self.path, self.budget = path, budget
        self.run, self.number, self.dataset = run, number, dataset
        self.entries: list[Entry] = []
        self._seals = [EMPTY]
        self._taken = 0  # bytes read so far
        self.torn = 0  # lines since the last whole one
        self._sums: dict[tuple[float, float], int] = {}
        if path.exists():
            with self._locked():
                self._read()

    @property
    def head(self) -> str:
        """The last seal, which covers the whole file."""
        return self._seals[-1]

    @property
    def charges(self) -> list[Charge]:
        """All charges; torn lines that are not yet charged count like the last line."""
        sums = dict(self._sums)
        if self.entries and self.torn:
            last = self.entries[-1]
            sums[last.z, last.q] += self.torn
        return [(z, q, steps) for (z, q), steps in sums.items()]

    def epsilon(self) -> float:
        """Return the epsilon spent so far at the budget's delta (RDP, zero-out)."""
        return rdp_epsilon(self.charges, self.budget.delta)

    def charges_of(self, run: str) -> list[Charge]:
        """Return the charges of one run."""
        return [(entry.z, entry.q, entry.steps) for entry in self.entries if entry.run == run]

    def require(self, heads: Iterable[str]) -> None:
        """Check that the file contains these earlier seals.

        Raises:
            PrivacyError: it does not: it is an older copy or another file.
        """
        if not set(heads) <= set(self._seals):
            raise PrivacyError(
                "the ledger lacks steps that were charged",
                where=str(self.path),
                fix="Restore the newest copy; private training stays off until then",
            )

    def require_budget(self, steps: int, noise_multiplier: float, sample_rate: float) -> None:
        """Check that the budget covers a number of further steps, without charging them.

        Raises:
            BudgetError: it does not.
        """
        self._afforded(steps + self.torn, noise_multiplier, sample_rate)

    def reserve(self, step: int, noise_multiplier: float, sample_rate: float) -> None:
        """Charge one step (`mama.privacy.ledger`)."""
        try:
            with self._locked():
                self._read()
                steps = 1 + self.torn
                epsilon = self._afforded(steps, noise_multiplier, sample_rate)
                self._append(
                    Entry(
                        run=self.run,
                        round=self.number,
                        step=step,
                        z=noise_multiplier,
                        q=sample_rate,
                        steps=steps,
                        dataset=self.dataset,
                        epsilon=epsilon,
                        delta=self.budget.delta,
                        nonce=secrets.token_hex(16),
                    )
                )
            if len(self.entries) == 1:
                sync_folder(self.path.parent)
        except OSError as error:
            raise PrivacyError(
                f"the step could not be charged ({type(error).__name__}, errno {error.errno})",
                where=str(self.path),
                fix="Make room on the disk and check its rights",
            ) from None

    def _afforded(self, steps: int, z: float, q: float) -> float:
        """Return the epsilon after further steps, which include torn lines."""
        sums = dict(self._sums)
        sums[z, q] = sums.get((z, q), 0) + steps
        epsilon = rdp_epsilon([(*key, count) for key, count in sums.items()], self.budget.delta)
        if epsilon > self.budget.epsilon:
            raise BudgetError(
                f"{steps} more steps would raise epsilon from {self.epsilon():.3f} to "
                f"{epsilon:.3f} at delta {self.budget.delta:g}, above the budget of "
                f"{self.budget.epsilon:g}",
                where=str(self.path),
                fix=(
                    "Plan fewer rounds or a smaller privacy.epsilon, or raise `budget` in the site "
                    "file"
                ),
            )
        return epsilon

    @contextmanager
    def _locked(self) -> Iterator[None]:
        private_folder(self.path.parent)
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            yield
        finally:
            os.close(self._file)

    def _read(self) -> None:
        """Read the lines that any process appended since the last read."""
        data = self._rest()
        self.torn = 0
        position = self._taken
        for line in data.split(b"\n"):
            position += len(line) + 1
            if not line:
                continue
            entry = self._opened(line)
            if entry is None:
                self.torn += 1
            elif entry.steps == 1 + self.torn:
                self._take(entry, line[:SEAL].decode(), position)
            else:
                raise self._changed()

    def _rest(self) -> bytes:
        size = os.fstat(self._file).st_size
        # The last line may still lack its line break, which the next writer adds.
        if size < self._taken - 1:
            raise self._changed()
        with os.fdopen(os.dup(self._file), "rb") as handle:
            handle.seek(self._taken)
            return handle.read()

    def _opened(self, line: bytes) -> Entry | None:
        """Return a line's entry, or None if a crash tore the line."""
        start, body = line[: SEAL + 1], line[SEAL + 1 :]
        try:
            entry = Entry.model_validate_json(body)
        except ValidationError:
            return None
        if start != f"{_seal(self.head, body)} ".encode():
            raise self._changed()
        return entry

    def _take(self, entry: Entry, seal: str, position: int) -> None:
        self.entries.append(entry)
        self._seals.append(seal)
        self._sums[entry.z, entry.q] = self._sums.get((entry.z, entry.q), 0) + entry.steps
        self.torn, self._taken = 0, position

    def _append(self, entry: Entry) -> None:
        body = entry.model_dump_json().encode()
        seal = _seal(self.head, body)
        data = f"{seal} ".encode() + body + b"\n"
        size = os.fstat(self._file).st_size
        if size and os.pread(self._file, 1, size - 1) != b"\n":
            data = b"\n" + data
        written = 0
        while written < len(data):
            written += os.write(self._file, data[written:])
        os.fsync(self._file)
        self._take(entry, seal, size + len(data))

    def _changed(self) -> PrivacyError:
        return PrivacyError(
            "the ledger was changed",
            where=str(self.path),
            fix="Restore the newest whole copy; private training stays off until then",
        )


def _seal(before: str, body: bytes) -> str:
    return hashlib.sha256(before.encode() + body).hexdigest()
