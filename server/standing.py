"""The part of a run's events that stands: what a restart from an earlier checkpoint undid is told again, or lost."""

from collections.abc import Iterable

from server.folder import Event

# Kinds of events that tell of one round's work.
UNDONE = ("asked", "round", "evaluation")


def standing(events: Iterable[Event]) -> list[Event]:
    """The events without the work of rounds after the checkpoint from which a later start went on."""
    kept: list[Event] = []
    for event in events:
        if event["event"] == "start":
            done = event["round"]
            kept = [e for e in kept if e["event"] not in UNDONE or e["round"] <= done]
        kept.append(event)
    return kept


def rounds_of(events: Iterable[Event]) -> dict[int, Event]:
    """The `round` event of each round that stands, by its number; a round told twice counts once, the last time."""
    return {event["round"]: event for event in standing(events) if event["event"] == "round"}
