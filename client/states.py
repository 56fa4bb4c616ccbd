"""What a site keeps from round to round, one file a round, so that a round asked for again starts where it did."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mama.errors import ModelError
from mama.files import private_folder
from mama.locks import locked
from mama.sealed import Values, read_if_whole, write_sealed

logger = logging.getLogger("fedmama.client")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Keep a run's state to this process: a second one waits, so that a task that two were given is done once.

    Half-written files are removed that a process left when it died.
    """
    private_folder(folder)
    with locked(folder / "lock"):
        for torn in folder.rglob(".*"):
            if torn.is_file():
                torn.unlink()
        yield


class RoundStates:
    """Files of one kind by round, counted from 1. That of the newest earlier round stays until it is not needed.

    The rounds that should be there are in the run's states.json, so that a lost file is missed. Where that itself is
    lost, the files that are there count.
    """

    def __init__(self, folder: Path):
        self.folder, self.index = folder, folder.parent / "states.json"

    def of(self, number: int) -> Path:
        """Where the state after a round belongs."""
        return self.folder / f"round-{number:06d}.safetensors"

    def before(self, number: int) -> Path | None:
        """The state that a round starts from: the newest of an earlier one, None where there is none.

        Raises:
            ModelError: there should be one, and it is gone.
        """
        rounds = self._rounds()
        if rounds and not self.index.exists():
            logger.warning("%s is gone; the files that are there count", self.index)
        newest = max((one for one in rounds if one < number), default=None)
        if newest is None:
            return None
        if not self.of(newest).exists():
            raise ModelError(
                "is gone",
                where=str(self.of(newest)),
                fix="Restore it, or remove the run's folder to start anew without the site's own state",
            )
        return self.of(newest)

    def keep(self, number: int) -> None:
        """Count the state after a round as written, and remove what no repetition starts from.

        Those of this round, of later ones and of the two before this stay: the coordinator asks for an earlier round
        again when it found its newest checkpoint damaged.
        """
        rounds = self._rounds() | {number}
        old = sorted(one for one in rounds if one < number)[:-2]
        # After the new file and before the old ones go: whatever a crash leaves, nothing that is needed seems gone.
        write_sealed(self.index, self._known() | {self.folder.name: sorted(rounds - set(old))})
        for one in old:
            self.of(one).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all of them: the run is over, and a round that is asked for all the same starts anew."""
        known = self._known()
        if known.pop(self.folder.name, None) is not None:
            write_sealed(self.index, known)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _rounds(self) -> set[int]:
        """Those that should be there, and those that a crash kept from being counted."""
        there = (path.stem.removeprefix("round-") for path in self.folder.glob("round-*"))
        return {int(one) for one in there if one.isdigit()}.union(
            self._known().get(self.folder.name, [])
        )

    def _known(self) -> Values:
        return read_if_whole(self.index)
