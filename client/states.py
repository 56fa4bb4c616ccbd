"""What a site keeps from round to round, one file a round, so that a round asked for again starts where it did."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mama.files import private_folder
from mama.locks import locked


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
    """Files of one kind by round, counted from 1. That of the newest earlier round stays until it is not needed."""

    def __init__(self, folder: Path):
        self.folder = folder

    def of(self, number: int) -> Path:
        """Where the state after a round belongs."""
        return self.folder / f"round-{number:06d}.safetensors"

    def before(self, number: int) -> Path | None:
        """The state that a round starts from: the newest of an earlier one, None where there is none."""
        earlier = self._earlier(number)
        return earlier[-1] if earlier else None

    def prune(self, number: int) -> None:
        """Remove what no repetition starts from: of this round, of a later one, or of the one before this.

        The coordinator asks for that one again when it found its newest checkpoint damaged.
        """
        for old in self._earlier(number)[:-2]:
            old.unlink()

    def _earlier(self, number: int) -> list[Path]:
        return [p for p in sorted(self.folder.glob("*.safetensors")) if p < self.of(number)]
