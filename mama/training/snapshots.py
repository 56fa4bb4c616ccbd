"""Snapshots from which training resumes exactly: weights, optimiser, hooks and a note.

step-000120/{optimiser,corrections,model}.safetensors
"""

import shutil
from pathlib import Path

from mama.system.tensors import load_tensors, load_weights, save_tensors
from mama.training.trainer import Trainer


class Snapshots:
    """Newest `kept` snapshots of one training run."""

    def __init__(self, folder: Path, kept: int):
        self.folder, self.kept = folder, kept

    def save(self, done: int, trainer: Trainer, note: object) -> None:
        """Write a snapshot after `done` steps with a JSON value; the weights complete it."""
        folder = self.folder / f"step-{done:06d}"
        trainer.save(folder / "optimiser.safetensors")
        state = {
            f"{number}.{name}": tensor
            for number, hook in enumerate(trainer.hooks)
            for name, tensor in hook.state().items()
        }
        save_tensors(folder / "corrections.safetensors", state)
        trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        weights = trained | dict(trainer.model.named_buffers())
        save_tensors(folder / "model.safetensors", weights, note)
        for old in self._complete()[: -self.kept]:
            shutil.rmtree(old)

    def note(self) -> object:
        """Return the note of the newest complete snapshot, None without one.

        Raises:
            ModelError: it is damaged.
        """
        complete = self._complete()
        return load_tensors(complete[-1] / "model.safetensors")[1] if complete else None

    def resume(self, trainer: Trainer) -> None:
        """Restore the newest complete snapshot, which must exist.

        Raises:
            ModelError: it is damaged or belongs to another model.
        """
        folder = self._complete()[-1]
        state, _ = load_tensors(folder / "corrections.safetensors")
        trainer.load(folder / "optimiser.safetensors")
        load_weights(folder / "model.safetensors", trainer.model)
        for number, hook in enumerate(trainer.hooks):
            own = f"{number}."
            hook.restore({k.removeprefix(own): t for k, t in state.items() if k.startswith(own)})

    def remove(self) -> None:
        """Delete all snapshots."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _complete(self) -> list[Path]:
        found = [path.parent for path in self.folder.glob("step-[0-9]*/model.safetensors")]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))
