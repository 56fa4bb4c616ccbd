"""Batches as in the published implementation: JPEG files, PIL transforms in RGB, padded text."""

import random
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torchvision import transforms
from transformers import AutoTokenizer

from benchmarks.method.plain_mama import PlainBatch
from benchmarks.method.workload import TEXT
from mama.data.manifest import Dataset

MAX_TOKENS = 144


class PlainPairs:
    """Two random views of a study's image or of two of its images, and the whole report.

    Views are squares of `size` pixels, or as wide as `width` says.
    """

    def __init__(self, folder: Path, size: int, width: int | None = None):
        dataset = Dataset(folder)
        self.studies, self.jpegs = dataset.studies("train"), folder / "jpeg"
        self.tokeniser: Any = AutoTokenizer.from_pretrained(folder / TEXT)
        self.tokeniser.pad_token = self.tokeniser.eos_token
        self.transform = transforms.Compose(
            [
                transforms.Resize((size, width or size)),
                transforms.RandomResizedCrop((size, width or size), scale=(0.1, 1)),
                transforms.RandomHorizontalFlip(),
                transforms.RandomVerticalFlip(),
                transforms.RandomApply([transforms.ColorJitter(0.8, 0.8, 0.8, 0.2)], 0.8),
                transforms.RandomGrayscale(0.2),
                transforms.RandomApply([transforms.GaussianBlur(7, (0.1, 2.0))], 0.4),
                transforms.ToTensor(),
                transforms.Normalize([0.5] * 3, [0.5] * 3),
            ]
        )

    def batch(self, studies: int) -> PlainBatch:
        """Return a batch of this many studies."""
        first, second, reports = [], [], []
        for study in random.sample(self.studies, studies):
            image = random.choice(study.images)
            other = random.choice(study.images) if random.random() < 0.5 else image
            first.append(self._view(image.id))
            second.append(self._view(other.id))
            end = self.tokeniser.eos_token
            reports.append(end + "".join(f"{sentence} {end}" for sentence in study.texts()))
        tokens = self.tokeniser(
            reports,
            padding="max_length",
            truncation=True,
            max_length=MAX_TOKENS,
            return_tensors="pt",
        )
        ids, mask = tokens["input_ids"], tokens["attention_mask"]
        ends = (ids == self.tokeniser.eos_token_id) & (mask == 1)
        separators = [row.nonzero().squeeze(1)[1:] for row in ends]
        return PlainBatch(torch.stack(first), torch.stack(second), ids, mask, separators)

    def _view(self, image: str) -> torch.Tensor:
        return self.transform(Image.open(self.jpegs / f"{image}.jpg").convert("RGB"))
