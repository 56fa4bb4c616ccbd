"""Embeddings of a dataset's images as a Parquet file, one row per image."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch

from mama.data.manifest import Dataset
from mama.data.studies import Study
from mama.errors import ConfigError, DataError
from mama.evaluation.features import CHUNK, image_features
from mama.final.card import NO_DEVICE
from mama.final.pretrained import PretrainedMaMA
from mama.system.files import replacing


def embed(model: PretrainedMaMA, dataset: Dataset, out: Path) -> int:
    """Write the embeddings of all images of a dataset; return their number.

    Columns are image, study and patient (the dataset's keyed ids), side, view, split and
    `embedding`, a unit vector. Memory does not grow with the dataset.

    Raises:
        ConfigError: pyarrow is not installed.
        DataError: the dataset has no image, or an image is missing, damaged or too small.
        TrainingError: the model's outputs are not finite.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError:
        fix = "Run: pip install 'fedmama[parquet]'"
        raise ConfigError("Parquet needs pyarrow", where="mama embed", fix=fix) from None

    width = model.experiment.heads.embedding
    columns = ("image", "study", "patient", "side", "view", "split")
    fields = [pa.field(name, pa.string()) for name in columns]
    fields.append(pa.field("embedding", pa.list_(pa.float32(), width)))
    schema = pa.schema(fields, metadata={"note": NO_DEVICE})
    count = 0
    with replacing(out) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for chunk in _chunks(dataset.manifest.studies):
            vectors = image_features(model.model, dataset, chunk, model.device).embeddings
            writer.write_table(_table(chunk, vectors, schema))
            count += len(vectors)
        if not count:
            fix = "Check the ingest's source"
            raise DataError("has no images", where=str(dataset.folder), fix=fix)
    return count


def _table(studies: list[Study], vectors: torch.Tensor, schema: "pa.Schema") -> "pa.Table":  # type: ignore[name-defined]  # noqa: F821
    import pyarrow as pa

    rows = [
        (image.id, study.id, study.patient, image.laterality, image.view, study.split)
        for study in studies
        for image in study.images
    ]
    values = pa.array(vectors.numpy().ravel())
    arrays = [pa.array(column, pa.string()) for column in zip(*rows, strict=True)]
    arrays.append(pa.FixedSizeListArray.from_arrays(values, vectors.shape[1]))
    return pa.Table.from_arrays(arrays, schema=schema)


def _chunks(studies: Iterable[Study]) -> Iterator[list[Study]]:
    """Yield runs of studies with at least CHUNK images, as far as there are so many."""
    chunk: list[Study] = []
    for study in studies:
        if study.images:
            chunk.append(study)
        if sum(len(one.images) for one in chunk) >= CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
