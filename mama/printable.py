"""Text from another machine, made safe for a terminal and a log."""

LONGEST = 200


def printable(text: str, limit: int = LONGEST) -> str:
    """The text on one line of at most `limit` characters, without any that a terminal obeys.

    Control, formatting (also right-to-left) and unassigned characters become spaces: an escape sequence is text then,
    and nothing can pass for a line of its own.
    """
    # What is far beyond the limit is not looked at.
    seen = "".join(c if c.isprintable() else " " for c in text[: limit + 1]).strip()
    return seen if len(text) <= limit else f"{seen[: limit - 1]}…"
