"""Record of the sums that this site helped to unmask, over all runs, as a hash chain.

Two sums over one update would expose their difference. Each line is:

    <sha256 of the previous seal and this line's JSON>, a space, JSON

The record lies in the site's privacy folder. Each run's folder keeps the last seal that it wrote,
which reveals that the record was removed or truncated. A second run of an experiment, or of one
that trains from the same model in the same round, needs a person's approval (docs/privacy.md).
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError

from client.errors import RefusedError
from client.policy.approval import Approvals
from client.site.config import SiteFile
from mama.errors import PrivacyError
from mama.exchange.codes import ErrorCode
from mama.exchange.secagg.messages import Basis
from mama.system.files import write_bytes
from mama.system.locks import locked

SEAL = "unmasked_seal"  # in a run's folder


class UnmaskedSums:
    """One site's record of unmasked sums.

    Raises:
        PrivacyError: in every method, if the record is damaged, or lacks lines that it had.
    """

    def __init__(self, site: SiteFile):
        self.site = site
        self.path = site.privacy / "unmasked"

    def require_new(self, basis: Basis) -> None:
        """Refuse training on a basis whose update other runs have already summed.

        Raises:
            RefusedError: the number of such runs exceeds the approved number.
        """
        with self._locked():
            self._require_new(self._read()[0], basis)

    def require_open(self, basis: Basis) -> None:
        """Refuse a wave of a round that has ended.

        Raises:
            RefusedError: the run has unmasked this round or a later one, or as `require_new`.
        """
        with self._locked():
            self._require_open(self._read()[0], basis)

    def remember(self, basis: Basis) -> None:
        """Append a sum to the record, durably.

        Raises:
            RefusedError: as `require_open`.
        """
        with self._locked():
            known, lines, seal = self._read()
            self._require_open(known, basis)
            body = basis.model_dump_json()
            seal = _seal(seal, body)
            write_bytes(self.path, f"{lines}{seal} {body}\n".encode(), private=True)
            write_bytes(self.site.run_folder(basis.run) / SEAL, seal.encode(), private=True)

    def _require_open(self, known: list[Basis], basis: Basis) -> None:
        self._require_new(known, basis)
        if any(one.run == basis.run and one.round >= basis.round for one in known):
            raise RefusedError(ErrorCode.SECURE_REPEATED, "the round was unmasked already")

    def _require_new(self, known: list[Basis], basis: Basis) -> None:
        others = {
            (one.run, one.experiment)
            for one in known
            if one.experiment == basis.experiment
            or (one.model, one.round) == (basis.model, basis.round)
        } - {(basis.run, basis.experiment)}
        if len(others) >= Approvals(self.site).runs(basis.experiment):
            runs = ", ".join(sorted(run for run, _ in others))
            raise RefusedError(ErrorCode.SECURE_REPEATED, f"unmasked before in {runs}")

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(self.path.with_name("unmasked.lock")):
            yield

    def _read(self) -> tuple[list[Basis], str, str]:
        """Return the sums, the record's text, and its last seal."""
        known: list[Basis] = []
        seals = [""]
        try:
            text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
            if text and not text.endswith("\n"):
                raise ValueError
            for line in text.splitlines():
                seal, body = line.split(" ", 1)
                if seal != _seal(seals[-1], body):
                    raise ValueError
                known.append(Basis.model_validate_json(body))
                seals.append(seal)
        except (ValueError, ValidationError):
            raise self._damaged("is damaged") from None
        kept = self.site.state.glob(f"runs/*/{SEAL}")
        if not {path.read_text(errors="replace", encoding="utf-8") for path in kept} <= set(seals):
            raise self._damaged("lacks sums that it had")
        return known, text, seals[-1]

    def _damaged(self, how: str) -> PrivacyError:
        return PrivacyError(
            f"the record of unmasked sums {how}",
            where=str(self.path),
            fix="Restore the newest copy; secure aggregation stays off until then",
        )


def _seal(before: str, body: str) -> str:
    return hashlib.sha256(f"{before}{body}".encode()).hexdigest()
