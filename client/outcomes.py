"""The outcomes of the site's last tasks, for `mama-site status` and the health service."""

import time
from collections.abc import Mapping
from typing import Any, Self

from pydantic import Field, ValidationError

from mama.exchange.codes import ErrorCode
from mama.section import Section

# So many failures of one kind of task in a row are more than a bad moment.
MANY = 2
# What only a person at the site can mend, and what every further task would fail of.
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
    """The end of a task: its kind in Flower's words (train, evaluate, query), its round, and "ok" or the code sent.

    `failures` counts those of this kind in a row.
    """

    kind: str
    round: str
    code: str
    time: float
    failures: int = Field(ge=0)

    @property
    def sentence(self) -> str:
        """The code with its sentence; "ok" where it went well."""
        try:
            return f"{self.code}: {ErrorCode(self.code).sentence}"
        except ValueError:
            return self.code


class Outcomes(Section):
    """The last outcome of every kind of task."""

    last: dict[str, Outcome] = {}

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> Self:
        """The outcomes in the guard's record; none where it is damaged or of an older version."""
        try:
            return cls.model_validate({"last": record.get("outcomes", {})})
        except ValidationError:
            return cls()

    def ended(self, kind: str, number: str, code: str) -> Self:
        """A copy with the outcome of a further task."""
        before = self.last.get(kind)
        failures = 0 if code == "ok" else 1 + (before.failures if before else 0)
        made = Outcome(kind=kind, round=number, code=code, time=time.time(), failures=failures)
        return self.model_copy(update={"last": self.last | {kind: made}})

    def without(self, mended: frozenset[ErrorCode]) -> Self:
        """A copy without the outcomes of these codes."""
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
        """The first failure whose cause lasts until somebody at the site mends it."""
        return next((one for _, one in sorted(self.last.items()) if one.code in LASTING), None)
