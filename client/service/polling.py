"""Pauses between polls for tasks, which grow with the time since the last task."""

import time


class Pace:
    """Pauses of a twentieth of the time since the last work, within limits in seconds."""

    def __init__(self, shortest: float, longest: float):
        self.shortest, self.longest = shortest, longest
        self.worked()

    def worked(self) -> None:
        """Record that there is work, or was until now."""
        self._last = time.monotonic()

    def rest(self) -> None:
        """Pause."""
        since = time.monotonic() - self._last
        time.sleep(min(self.longest, max(self.shortest, since / 20)))


class NodePauses:
    """Replacement of the module `time` in the loop of Flower's node.

    Flower pauses for 3 s if there is no message, and for 0.5 s while its executor is busy.
    """

    def __init__(self) -> None:
        self._pace = Pace(0.3, 3.0)

    def called(self, path: str) -> None:
        """Record a call to the coordinator; all but polls and heartbeats belong to a message."""
        if not path.endswith(("/pull-messages", "/send-node-heartbeat")):
            self._pace.worked()

    def sleep(self, seconds: float) -> None:
        """Pause for less time than Flower requests."""
        if seconds >= 3:
            self._pace.rest()
        else:
            time.sleep(min(seconds, 0.1))
