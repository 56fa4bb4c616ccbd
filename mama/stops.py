"""Where training may stop and go on to the bit: a folder a stop with weights, optimiser and a note.

step-000120/{optimiser,corrections,model}.safetensors
"""

import shutil
from pathlib import Path

from mama.checkpoint import load_tensors, load_weights, save_tensors
from mama.trainer import Trainer


class Stops:
    """The newest `kept` stops of one training."""

    def __init__(self, folder: Path, kept: int):
        self.folder, self.kept = folder, kept

    def save(self, done: int, trainer: Trainer, note: object) -> None:
        """Write a stop after `done` steps, with a JSON value; the weights come last and make it whole."""
        folder = self.folder / f"step-{done:06d}"
        trainer.save(folder / "optimiser.safetensors")
        gathered = {
            f"{number}.{name}": tensor
            for number, correction in enumerate(trainer.corrections)
            for name, tensor in correction.gathered().items()
        }
        save_tensors(folder / "corrections.safetensors", gathered)
        trained = {name: p for name, p in trainer.model.named_parameters() if p.requires_grad}
        weights = trained | dict(trainer.model.named_buffers())
        save_tensors(folder / "model.safetensors", weights, note)
        for old in self._whole()[: -self.kept]:
            shutil.rmtree(old)

    def note(self) -> object:
        """The newest whole stop's note, None where there is no stop.

        Raises:
            ModelError: it is damaged.
        """
        whole = self._whole()
        return load_tensors(whole[-1] / "model.safetensors")[1] if whole else None

    def resume(self, trainer: Trainer) -> None:
        """Take up the newest whole stop; there must be one.

        Raises:
            ModelError: it is damaged, or of another model.
        """
        folder = self._whole()[-1]
        gathered, _ = load_tensors(folder / "corrections.safetensors")
        trainer.load(folder / "optimiser.safetensors")
        load_weights(folder / "model.safetensors", trainer.model)
        for number, correction in enumerate(trainer.corrections):
            own = f"{number}."
            correction.resume(
                {k.removeprefix(own): t for k, t in gathered.items() if k.startswith(own)}
            )

    def remove(self) -> None:
        """Forget all of them."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _whole(self) -> list[Path]:
        found = [path.parent for path in self.folder.glob("step-[0-9]*/model.safetensors")]
        return sorted(found, key=lambda path: int(path.name.removeprefix("step-")))
