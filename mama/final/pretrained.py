"""A finished model as users call it: files and sentences in, embeddings and probabilities out."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from mama.config import Experiment
from mama.config.earlier import find_final
from mama.data.augment import normalise
from mama.data.reports.read import read_report
from mama.errors import ConfigError, DataError
from mama.evaluation.predictions import require_numbers
from mama.evaluation.protocols.zero_shot import class_embeddings, metadata
from mama.exchange.metrics import LABELS
from mama.final.mammogram import Mammogram, read_mammogram
from mama.final.saved import load_final
from mama.model import MaMA

CHUNK = 16  # images that the tower encodes at a time

File = str | Path | Mammogram


class PretrainedMaMA:
    """A trained model with its preprocessing, tokeniser and prompts.

    Research use only: this is no medical device, and its answers are no diagnosis.

    Example:
        model = PretrainedMaMA.from_pretrained("runs/quickstart")
        model.predict("image.dcm", task="density")  # {"A": 0.1, "B": 0.7, ...}

    Args:
        model: the model.
        experiment: its experiment, with preprocessing and prompts.
        device: device to compute on.
    """

    def __init__(self, model: MaMA, experiment: Experiment, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.model, self.experiment = model.to(self.device).eval(), experiment

    @classmethod
    def from_pretrained(
        cls, path: str | Path, device: torch.device | str = "cpu"
    ) -> "PretrainedMaMA":
        """Load the model of a run's folder, or of its `final/`.

        Raises:
            ModelError: the folder holds no model, or one whose weights do not fit its experiment.
        """
        return cls(*load_final(find_final(Path(path))), device)

    @property
    def tasks(self) -> dict[str, dict[str, list[str]]]:
        """Prompts by class for each task, classes in alphabetical order."""
        prompts = {label: getattr(self.experiment.evaluation, label) for label in LABELS}
        return {task: {name: of[name] for name in sorted(of)} for task, of in prompts.items()}

    def preprocess(self, images: File | Iterable[File]) -> Tensor:
        """Return files as the model's input, (N, 1, H, W) float32 in [-1, 1], background -1.

        Raises:
            DataError: a file is missing or no usable mammogram.
        """
        size, layout = self.experiment.image.size, self.experiment.image.layout
        return normalise([_read(file).canvas(size, layout) for file in _several(images)])

    @torch.no_grad()
    def encode_image(self, images: File | Iterable[File]) -> Tensor:
        """Return unit vectors (N, E), on the CPU, of DICOM files or greyscale pictures.

        Raises:
            DataError: a file is missing or no usable mammogram.
            TrainingError: the model's outputs are not finite.
        """
        files, rows = _several(images), []
        for first in range(0, len(files), CHUNK):
            inputs = self.preprocess(files[first : first + CHUNK]).to(self.device)
            rows.append(self.model.encode_images(inputs, local=False).embedding)
        return _unit(torch.cat(rows))

    @torch.no_grad()
    def encode_text(self, texts: str | Iterable[str]) -> Tensor:
        """Return unit vectors (M, E), on the CPU, of reports or sentences.

        A text is split into sentences, as training sees reports. One that is longer than the text
        tower's `max_tokens` loses its last sentences.

        Raises:
            DataError: a text has no words.
            TrainingError: the model's outputs are not finite.
        """
        given = [texts] if isinstance(texts, str) else list(texts)
        reports = [[s.text for s in read_report(text, None).sentences] for text in given]
        tokens = self.model.text.tokenise(reports)
        empty = [number for number, count in enumerate(tokens.counts.tolist(), 1) if not count]
        if empty:
            raise DataError("has no words", where=f"text {empty[0]}", fix="Give a sentence")
        return _unit(self.model.encode_texts(tokens.to(self.device), local=False).embedding)

    def similarity(self, images: File | Iterable[File], texts: str | Iterable[str]) -> Tensor:
        """Return the cosines (N, M) of images and texts; errors as in the encoders."""
        return self.encode_image(images) @ self.encode_text(texts).T

    def predict(self, image: File, task: str) -> dict[str, float]:
        """Return the zero-shot probability of each class of a task for one image.

        The prompts of the run's experiment, as `mama evaluate` uses them: an ensemble per class
        and, with `evaluation.metadata`, side and view of the image before each prompt.

        Raises:
            ConfigError: the model has no such task.
            DataError: the file is missing or no usable mammogram.
        """
        prompts = self.prompts_of(task)
        mammogram = _read(image)
        cosines = self.encode_image(mammogram) @ self._classes(prompts, mammogram).T
        scale = float(self.model.logit_scale.detach().exp())
        probabilities = torch.softmax(scale * cosines[0].double(), dim=0)
        return dict(zip(prompts, probabilities.tolist(), strict=True))

    def prompts_of(self, task: str) -> dict[str, list[str]]:
        """Return a task's prompts by class.

        Raises:
            ConfigError: the model has no such task.
        """
        if task not in self.tasks:
            raise ConfigError(
                f"the model has no task {task!r}",
                where="task",
                fix=f"Choose among: {', '.join(self.tasks)}",
            )
        return self.tasks[task]

    def _classes(self, prompts: dict[str, list[str]], mammogram: Mammogram) -> Tensor:
        before = metadata(mammogram.record) if self.experiment.evaluation.metadata else ()
        return class_embeddings(self.model, prompts, self.device, before)


def _read(file: File) -> Mammogram:
    return file if isinstance(file, Mammogram) else read_mammogram(file)


def _several(images: File | Iterable[File]) -> Sequence[File]:
    files = [images] if isinstance(images, str | Path | Mammogram) else list(images)
    if not files:
        raise DataError("no images", where="images", fix="Give at least one file")
    return files


def _unit(embeddings: Tensor) -> Tensor:
    unit = F.normalize(embeddings.float(), dim=-1).cpu()
    require_numbers(unit.numpy())
    return unit
