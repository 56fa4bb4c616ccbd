"""The outcome of one policy rule for an experiment."""

from dataclasses import dataclass

from mama.exchange.codes import ErrorCode


@dataclass(frozen=True)
class Finding:
    """The outcome of one rule: the limit, the experiment's value, and the code of a refusal."""

    rule: str
    allowed: str
    requested: str
    passes: bool
    code: ErrorCode
