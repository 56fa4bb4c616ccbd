"""State that a site keeps between rounds, one file per round, so that rounds can be repeated."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from mama.errors import ModelError
from mama.system.files import private_folder
from mama.system.locks import locked
from mama.system.sealed import Values, read_if_whole, write_sealed
from mama.system.tensors import load_tensors

logger = logging.getLogger("fedmama.client")


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Lock a run's state, so that a task that was sent to two processes is done once.

    Partial files that a dead process left are removed.
    """
    private_folder(folder)
    with locked(folder / "lock"):
        for torn in folder.rglob(".*"):
            if torn.is_file():
                torn.unlink()
        yield


class RoundStates:
    """Files of one kind of state by round, counted from 1; old ones are removed.

    The run's states.json lists the expected rounds, so that a lost file is detected. If that file
    itself is lost, the existing files are used.
    """

    def __init__(self, folder: Path):
        self.folder, self.index = folder, folder.parent / "states.json"

    def of(self, number: int) -> Path:
        """Return the path of the state after a round."""
        return self.folder / f"round-{number:06d}.safetensors"

    def before(self, number: int) -> Path | None:
        """Return the state that a round starts from: the newest earlier one, or None.

        Raises:
            ModelError: the expected file is missing.
        """
        rounds = self._rounds()
        if rounds and not self.index.exists():
            logger.warning("%s is missing; the existing files are used", self.index)
        newest = max((one for one in rounds if one < number), default=None)
        if newest is None:
            return None
        if not self.of(newest).exists():
            raise ModelError(
                "is missing",
                where=str(self.of(newest)),
                fix="Restore it, or remove the run's folder to start without the site's own state",
            )
        return self.of(newest)

    def read_before(self, number: int, site: str) -> dict[str, Tensor]:
        """Return the tensors that a round starts from; empty if there are none or they are lost.

        For state whose loss makes a round less exact but not wrong; it is a warning in the log.
        """
        try:
            path = self.before(number)
            return load_tensors(path)[0] if path else {}
        except ModelError as error:
            logger.warning("site %s, round %d: %s", site, number, error)
            return {}

    def keep(self, number: int) -> None:
        """Record that the state after a round was written, and remove old states.

        The states of this round, of later ones and of the two before are kept: the coordinator
        repeats an earlier round if its newest checkpoint is damaged.
        """
        rounds = self._rounds() | {number}
        old = sorted(one for one in rounds if one < number)[:-2]
        # After the new file is written and before old ones are removed, so that a crash never makes
        # a needed file seem lost.
        write_sealed(self.index, self._known() | {self.folder.name: sorted(rounds - set(old))})
        for one in old:
            self.of(one).unlink(missing_ok=True)

    def remove(self) -> None:
        """Remove all states after the end of the run; a further round would start without state."""
        known = self._known()
        if known.pop(self.folder.name, None) is not None:
            write_sealed(self.index, known)
        if self.folder.exists():
            shutil.rmtree(self.folder)

    def _rounds(self) -> set[int]:
        """Return the expected rounds, and those that a crash kept from being recorded."""
        there = (path.stem.removeprefix("round-") for path in self.folder.glob("round-*"))
        return {int(one) for one in there if one.isdigit()}.union(
            self._known().get(self.folder.name, [])
        )

    def _known(self) -> Values:
        return read_if_whole(self.index)
