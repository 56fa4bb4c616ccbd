"""Whose answers count: those that a site on the federation's roster has signed, for the task that it was asked."""

from pathlib import Path

from mama.errors import ProtocolError, SignatureError
from mama.exchange.protocol import SINCE, Answer, Task
from mama.exchange.roster import Roster
from mama.exchange.signature import verify_answer
from mama.signing import read_public_line


class Signers:
    """The active sites' keys. The roster's file is read anew each time, for sites are enrolled and revoked meanwhile.

    Args:
        roster: the coordinator's own file; None in a simulation without one, where the name that an answer claims is
            believed.
    """

    def __init__(self, roster: Path | None = None):
        self._roster = roster

    def key_of(self, site: str) -> str | None:
        """The line of a site's key, None where the site does not take part; empty where there is no roster."""
        if self._roster is None:
            return ""
        active = Roster.own(self._roster.read_text(encoding="utf-8")).active
        return next((m.public_key for m in active if m.site == site), None)

    def require(
        self, answer: Answer, task: Task, header: str, payload: bytes, signature: object
    ) -> None:
        """Refuse an answer that is not signed with the key of the site whose name it has.

        Args:
            header: what `answer` was read from.

        Raises:
            ProtocolError: it is of another site, of none on the roster, to another task, or of a protocol without
                signatures.
        """
        line = self.key_of(answer.site)
        if line == "":
            return
        if answer.protocol < SINCE["nonce"]:
            raise ProtocolError(
                f"its answer is not signed: it speaks protocol {answer.protocol}; update the site"
            )
        try:
            if line is None or not isinstance(signature, str):
                raise SignatureError("no key or no signature")
            verify_answer(read_public_line(line), task, header, payload, signature)
        except (SignatureError, ValueError):
            raise ProtocolError("its answer is not signed by a site on the roster") from None
