"""Scores of single images: maps of their texts, and of simple rules, against their boxes."""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import islice
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F

from mama.config import Experiment
from mama.data.augment import normalise, on_canvas
from mama.data.manifest import Dataset
from mama.data.studies import Image, Study
from mama.evaluation.heat_map import heat_maps
from mama.evaluation.pointing.boxes import lesion_patches
from mama.evaluation.pointing.figures import energy_inside, hit, rules
from mama.evaluation.pointing.texts import finding_sentences, phrases
from mama.evaluation.predictions import require_numbers
from mama.evaluation.protocols.zero_shot import class_embeddings, metadata
from mama.model import MaMA
from mama.towers.tissue import tissue_patches

CHUNK = 32
# Of the maps of a model; those of rules are the names of `figures.rules`.
OWN, FRESH = "own_sentence", "fresh_phrase"

Chosen = Literal["finding", "most_similar", "no_sentence"]


class Score(NamedTuple):
    """Figures of one image by map; no `own_sentence` if its report says nothing of the breast."""

    patient: str
    chosen: Chosen
    hits: dict[str, float]
    energies: dict[str, float]


def scores(
    model: MaMA,
    experiment: Experiment,
    dataset: Dataset,
    studies: Sequence[Study],
    device: torch.device,
) -> Iterator[Score]:
    """Yield the score of every image of `studies` that has boxes.

    `own_sentence` is the mean map of the report's `finding_sentences` on the breast, or else the
    map of its sentence that is most similar to the image; `fresh_phrase` is that of `phrases`,
    behind the image's metadata if `evaluation.metadata` asks for them.

    Raises:
        DataError: a box lies outside its picture, or an image is missing, damaged or too small.
        TrainingError: the model's heat maps are not finite.
    """
    canvas, grid = model.image.config, model.image.grid
    dataset.require(canvas.size)
    model.eval()
    reader = _Reader(model, experiment, device)
    boxed = ((study, image) for study in studies for image in study.images if image.boxes)
    while chunk := list(islice(boxed, CHUNK)):
        inside = [lesion_patches(image, canvas, grid) for _, image in chunk]
        pixels = (dataset.pixels(image) for _, image in chunk)
        canvases = normalise([on_canvas(one, canvas.size, canvas.layout) for one in pixels])
        images = canvases.to(device)
        texts, chosen = reader.texts(chunk, images)
        maps = heat_maps(model, images, texts.to(device)).numpy()
        kept = model.image.kept(images).cpu().unflatten(1, grid).numpy()
        tissue = tissue_patches(canvases, grid).unflatten(1, grid).numpy()
        for place, (study, _) in enumerate(chunk):
            require_numbers(maps[place][:, kept[place]])
            own, fresh = maps[place]
            heat = {OWN: own, FRESH: fresh} if chosen[place] != "no_sentence" else {FRESH: fresh}
            # As the tower does, take all patches of a picture without tissue.
            plain = rules(canvases[place], tissue[place] | ~tissue[place].any())
            yield Score(
                study.patient,
                chosen[place],
                {name: hit(one, inside[place]) for name, one in (heat | plain).items()},
                {name: energy_inside(one, inside[place]) for name, one in heat.items()},
            )


class _Reader:
    """Chooses and encodes the two texts of each image."""

    def __init__(self, model: MaMA, experiment: Experiment, device: torch.device):
        self._model, self._device = model, device
        self._metadata = experiment.evaluation.metadata
        self._phrase = cache(self._mean)  # few texts, of many images

    def texts(
        self, chunk: Sequence[tuple[Study, Image]], images: torch.Tensor
    ) -> tuple[torch.Tensor, list[Chosen]]:
        """Return the vectors (N, 2, E) of own sentences and fresh phrases, and the own's choice."""
        with torch.no_grad():
            vectors = self._model.encode_images(images, local=False).embedding
        vectors = F.normalize(vectors, dim=-1).float().cpu()
        pairs, chosen = [], []
        for (study, image), vector in zip(chunk, vectors, strict=True):
            own, how = self._own(study, image, vector)
            before = metadata(image) if self._metadata else ()
            fresh = self._phrase(phrases(box.label for box in image.boxes), before)
            pairs.append(torch.stack([own, fresh]))
            chosen.append(how)
        return torch.stack(pairs), chosen

    def _own(self, study: Study, image: Image, vector: torch.Tensor) -> tuple[torch.Tensor, Chosen]:
        labels = [box.label for box in image.boxes]
        if found := finding_sentences(study, image.laterality, labels):
            return self._mean(tuple(found)), "finding"
        every = study.texts(image.laterality)
        if not every:
            return torch.zeros_like(vector), "no_sentence"
        each = class_embeddings(self._model, {text: [text] for text in every}, self._device)
        return each[int((each @ vector).argmax())], "most_similar"

    def _mean(self, texts: tuple[str, ...], before: tuple[str, ...] = ()) -> torch.Tensor:
        """Return the unit vector along the mean of texts; its map is their mean map, scaled."""
        return class_embeddings(self._model, {"": [*texts]}, self._device, before)[0]
