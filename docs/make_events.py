"""Table of events in docs/reliability.md, generated from server/run/events.py.

python -m docs.make_events
"""

from dataclasses import fields

from server.run.events import KINDS, Event


def table() -> str:
    """Return the table, one row an event."""
    rows = [f"| `{kind}` | {_when(event)} | {_keys(event)} |" for kind, event in KINDS.items()]
    return "\n".join(["| event | when | keys |", "|---|---|---|", *rows])


def _when(event: type[Event]) -> str:
    text = (event.__doc__ or "").splitlines()[0].rstrip(".")
    return text[0].lower() + text[1:]


def _keys(event: type[Event]) -> str:
    keys = []
    for one in fields(event):
        if one.name == "time":
            continue
        note = one.metadata.get("help")
        keys.append(f"`{one.name}`" + (f" ({note})" if note else ""))
    return ", ".join(keys)


if __name__ == "__main__":
    print(table())
