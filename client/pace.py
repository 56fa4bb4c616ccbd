"""How often to ask for work: at once after there was some, seldom when there has been none for long."""

import time


class Pace:
    """A pause is a twentieth of the time since there was work, within limits in seconds."""

    def __init__(self, shortest: float, longest: float):
        self.shortest, self.longest = shortest, longest
        self.worked()

    def worked(self) -> None:
        """There is, or was just now, something to do."""
        self._last = time.monotonic()

    def rest(self) -> None:
        """Pause."""
        since = time.monotonic() - self._last
        time.sleep(min(self.longest, max(self.shortest, since / 20)))


class NodePauses:
    """Stands for the module `time` in the loop of Flower's node, which pauses 3 s when there is no message and 0.5 s
    when its executor is at work."""

    def __init__(self) -> None:
        self._pace = Pace(0.3, 3.0)

    def called(self, path: str) -> None:
        """The node called the coordinator: all but the question for messages and the heartbeat belongs to a message."""
        if not path.endswith(("/pull-messages", "/send-node-heartbeat")):
            self._pace.worked()

    def sleep(self, seconds: float) -> None:
        """Pause for less than Flower would."""
        if seconds >= 3:
            self._pace.rest()
        else:
            time.sleep(min(seconds, 0.1))
