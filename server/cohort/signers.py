"""Signature check of answers: only active sites on the roster, and only for the task sent."""

from pathlib import Path

from mama.errors import ProtocolError, SignatureError
from mama.exchange.protocol import SINCE, Answer, Task
from mama.exchange.roster import Roster
from mama.exchange.signature import verify_answer
from mama.exchange.signing import read_public_line


class Signers:
    """Keys of the active sites.

    The roster file is read at each call, because sites are enrolled and revoked during a run.

    Args:
        roster: the coordinator's own file; None in a simulation without one, where the name that an
            answer claims is believed.
    """

    def __init__(self, roster: Path | None = None):
        self._roster = roster

    def key_of(self, site: str) -> str | None:
        """Return the line of a site's public key: None if not active, empty without a roster."""
        if self._roster is None:
            return ""
        active = Roster.own(self._roster.read_text(encoding="utf-8")).active
        return next((m.public_key for m in active if m.site == site), None)

    def require(
        self, answer: Answer, task: Task, header: str, payload: bytes, signature: object
    ) -> None:
        """Refuse an answer that is not signed with the key of the site that it names.

        Args:
            answer: of the site.
            task: that it must answer.
            header: JSON that `answer` was parsed from.
            payload: tensors of the answer.
            signature: over the above, as it arrived.

        Raises:
            ProtocolError: signed by another site or by none on the roster, for another task, or
                sent under a protocol without signatures.
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
