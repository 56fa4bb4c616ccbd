"""One rule of a site's policy, what an experiment asks, and whether the site allows it."""

from dataclasses import dataclass

from mama.exchange.codes import ErrorCode


@dataclass(frozen=True)
class Finding:
    """A rule's name, what it allows, what was asked, whether that passes, and the code of a refusal."""

    rule: str
    allowed: str
    asked: str
    passes: bool
    code: ErrorCode
