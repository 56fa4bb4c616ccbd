"""Outcomes of the site's last tasks, for `mama-site status` and the health service."""

import time
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError

from mama.config.base import Section
from mama.exchange.codes import ErrorCode

# Consecutive failures of one kind of task that are reported.
MANY = 2
# Failures of every further task until a person at the site fixes the cause.
LASTING = frozenset(
    {
        ErrorCode.DISK_FULL,
        ErrorCode.SITE_FILE,
        ErrorCode.NO_DATA,
        ErrorCode.BASE_MODEL,
        ErrorCode.SENT_RECORD,
        ErrorCode.RECORDS,
    }
)


class Outcome(Section):
    """Outcome of a task.

    `kind` is Flower's name (train, evaluate, query), `code` is "ok" or the error code that was
    sent, and `failures` counts consecutive failures of this kind.
    """

    kind: str
    round: str
    code: str
    time: float
    failures: int = Field(ge=0)

    @property
    def sentence(self) -> str:
        """The code with its sentence, or "ok"."""
        try:
            return f"{self.code}: {ErrorCode(self.code).sentence}"
        except ValueError:
            return self.code


class Outcomes(Section):
    """Last outcome of every kind of task."""

    last: dict[str, Outcome] = {}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """Return the outcomes in the guard's record; none if damaged or of another version."""
        try:
            return cls.model_validate({"last": record.get("outcomes", {})})
        except ValidationError:
            return cls()

    def ended(self, kind: str, number: str, code: str) -> Self:
        """Return a copy with the outcome of a further task."""
        before = self.last.get(kind)
        failures = 0 if code == "ok" else 1 + (before.failures if before else 0)
        made = Outcome(kind=kind, round=number, code=code, time=time.time(), failures=failures)
        return self.model_copy(update={"last": self.last | {kind: made}})

    def without(self, mended: frozenset[ErrorCode]) -> Self:
        """Return a copy without the outcomes of these codes."""
        left = {kind: one for kind, one in self.last.items() if one.code not in mended}
        return self.model_copy(update={"last": left})

    @property
    def newest(self) -> Outcome | None:
        """The outcome of the task that ended last."""
        return max(self.last.values(), key=lambda one: one.time, default=None)

    @property
    def failing(self) -> list[Outcome]:
        """The outcomes of kinds of task that failed MANY times in a row or more."""
        return [one for _, one in sorted(self.last.items()) if one.failures >= MANY]

    @property
    def blocking(self) -> Outcome | None:
        """The first failure that lasts until a person at the site fixes the cause."""
        return next((one for _, one in sorted(self.last.items()) if one.code in LASTING), None)
